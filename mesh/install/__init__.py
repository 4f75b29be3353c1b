"""What Seine is in a cluster: values -> Kubernetes objects. Pure; printing them is the command's.

values      what an operator may choose
objects     all of them, in the order in which they are applied
accounts    who may do what
pods        the two DaemonSets: agent and workers
controller  its Deployment, and the Service by which agents find it
upgrade     what an installation remembers of itself, and how far apart two versions may be
difference  what in a cluster is not as we want it
"""

from mesh.install.objects import crds, objects
from mesh.install.values import VERSION, BadValue, Values, chosen

__all__ = ["VERSION", "BadValue", "Values", "chosen", "crds", "objects"]
