"""What this machine's pods live in: network namespaces, seen by netlink and setns. Knows no mesh.

netns      namespaces by path: who they are, and errands inside
sandboxes  where a pod is: its namespace and cgroup, by its uid
kubelet    which cgroup kubelet is in
routing    which routes lead to other nodes' pods: wanted, compared with what is there; pure
tables     routing tables as values; pure
routes     the tables themselves, read and changed by netlink
sockdiag   a namespace's TCP sockets, listed and ended
netlink    the few dumps that we need, as bytes
"""
