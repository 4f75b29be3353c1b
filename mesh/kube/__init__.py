"""Kubernetes objects -> model. The only package that knows their schemas.

objects      the raw objects, as far as we read them (msgspec partial structs)
documents    YAML text -> plain values that know their lines, within limits
settings     labels and annotations -> how Seine shall treat a pod
fields       single fields that several kinds have
mesh_node    the MeshNode object, read and written
host         the Node object, as far as it says where a machine is
policy       the AuthorizationPolicy, or why it is refused
parse        one raw object -> checked facts, or a refusal that points at the field
listings     what the other nodes list, without contradictions
assemble     all facts -> Snapshot: who belongs to whom, and who comes too late
reader       one file -> facts and faults
directory    files of a directory -> facts -> Snapshot, followed
publication  what this node says of itself, as a file for the others
whereabouts  pods' addresses by two tellers, the API server and CNI
index        facts that come and go one by one -> Snapshot, incrementally
api          the API server as a source: the same raw objects go to `parse`, and all behind it is shared
"""

from mesh.kube.directory import DirectorySource

__all__ = ["DirectorySource"]
