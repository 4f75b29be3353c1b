"""One agent in a large cluster: a real API server with 10 000 Services and 100 000 endpoints, 50 enrolled pods here.

    python -m tests.bench scale [--quick]

There is nothing to compare with in one topology, hence no peers: figures are absolute, and bars are limits.

objects.py        the cluster as Kubernetes objects, and changes of it; pure
town.py           etcd, an API server and the node's pods
writer.py         many writes, as fast as they go or at a rate
probe.py          a program in a pod: who answers behind each of some Services, and since when
scale.py          what is measured, in which order
"""

from tests.bench.scale.scale import Scale, ScaleRun

__all__ = ["Scale", "ScaleRun"]
