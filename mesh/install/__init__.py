"""What Seine is in a cluster: values -> Kubernetes objects. Pure; printing them is the command's.

values     what an operator may choose
objects    all of them, in the order in which they are applied
accounts   who may do what
pods       the two DaemonSets
"""

from mesh.install.objects import crds, objects
from mesh.install.values import BadValue, Values, chosen

__all__ = ["BadValue", "Values", "chosen", "crds", "objects"]
