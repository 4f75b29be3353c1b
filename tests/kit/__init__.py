"""What the tests stand on: a lab of pods, real programs in them, Kubernetes YAML about them, a mesh over them.

lab, spawn, enter, wait    pods as network namespaces with a cgroup each; no pytest, no mesh: the demo uses them too
leftovers                  proves that nothing of a lab is left behind, and sweeps what a killed run left
apps, talk, origin, load   programs in pods: nginx, PostgreSQL, curl, wrk, small servers, a load client, client.c
manifests, seine           the YAML of the standalone source, and `seine agent` running on it
builders, clock            values and time for tests of pure code
"""
