"""Snapshot -> what engine and kernel are told. Pure and deterministic: the same snapshot gives the same values.

peers         who is reached by tunnel, and as whom
mesh_node     what this node says of itself to the others
plans         what the engine does with a connection to an address
destinations  what the connect hook knows of an address
policies      who may call a pod of this node
sources       who is behind a client's address
baggage       what other nodes' proxies are told of who calls
vanished      nodes whose lists are gone without a goodbye: what they said holds for a while
conflicts     what two objects claim; our sources admit none, this is the check
memo          what was made of each Service the last time
select        questions that more than one of these asks
"""

from mesh.control.conflicts import conflicts
from mesh.control.destinations import DestinationCompiler, compile_destinations
from mesh.control.mesh_node import compile_mesh_node
from mesh.control.peers import Peer, compile_peers, quic_nodes
from mesh.control.plans import PlanCompiler, compile_plans
from mesh.control.policies import compile_policies
from mesh.control.sources import compile_sources

__all__ = [
    "DestinationCompiler",
    "PlanCompiler",
    "Peer",
    "compile_destinations",
    "compile_mesh_node",
    "compile_peers",
    "compile_plans",
    "compile_policies",
    "compile_sources",
    "conflicts",
    "quic_nodes",
]
