"""A real Kubernetes for the tests: two nodes on this machine, everything of them built from Go modules, no Docker.

    binaries      what is started, built once into a cache
    certificates  who is who in the cluster
    machine       a computer of the cluster: a network namespace, a mount namespace, its processes
    control       etcd, API server, controllers, scheduler
    node          containerd, kubelet, kube-proxy
    images        container images made without a registry
    mesh          Seine in it
    cluster       all of it, up and down
    kubernetes    a cluster as its administrator asks it: ours, or anybody's

`./dev cluster up` starts one to look at; tests take the fixture `cluster`. Everything is named and marked as a lab's
things are (tests/kit/leftovers.py), so that parallel clusters never meet and killed ones are swept.
"""
