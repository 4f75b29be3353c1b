"""Seine, an eBPF service mesh: Python plans, C moves, the kernel short-cuts.

The way of one connection, and the package or module of each stage:

    1 capture    the kernel hands us a connection meant for someone else
    2 detect     first bytes -> protocol, or "need more"
    3 (route)    no rules of routing yet: control compiles the plans
    4 balance    which endpoint
    5 forward    the engine: asyncio around the C in cext/
    6 observe    records -> metrics, status

Values and kit, for all of them:

    model         frozen values that every stage shares
    config        settings with unit, default and reason; the only reader of the environment
    errors        every way a connection can end badly
    aio           asyncio kit that knows nothing about meshes

Around the stages:

    kube          Kubernetes objects, from files or the API server -> model
    node          namespaces and routing tables by netlink
    identity      SPIFFE ids, certificates and the authority they come from, its rotation; what policies mean
    control       objects -> snapshot -> plans; pure
    cni           our plugin in a node's CNI chain: its entry, its rules, the socket that it asks
    install       what Seine is in a cluster: values -> Kubernetes objects; pure
    controlplane  what the controller does: node rule, leadership, roots, statuses
    custody       what operators may do with an authority whose root is ours, the agent's or the controller's

Processes, composition roots:

    agent         one per node, root
    worker        several per node, no privileges
    signer        one per node, has the private keys; no privileges
    quic          one per node where QUIC is asked for, no privileges
    launcher      starts these three in a pod of their own, where the agent does not
    controller    two per cluster, signs for agents; one of them decides
    cli           the command `seine`, one file per command

What the agent is made of, each a duty or two that join stages:

    source        where objects come from, and where pods are
    held          what other nodes listed last, where their lists are missing now
    enrolment     brings the kernel and the workers to what the snapshot says
    arrivals      new pods are in the mesh before their first packet
    watch         is every pod really captured? proofs and repairs
    drains        ends connections that go past the mesh, on request
    probes        lets kubelet's probes into every pod
    credentials   the node's certificates and keys, put together from settings
    node_routes   keeps the routes to other nodes' pods
    announce      what the agent tells the other nodes
    herald        what became of pods, as Events of Kubernetes
    report        what the agent tells of itself, as one document
    rundir        a node's lock and counter files
    leave         takes Seine off a node, when the agent has ended

Imports go downward only: cli -> agent, worker -> control -> stages and kube -> node -> config -> model, errors, aio.
`lint-imports` checks it, tests/unit/test_architecture.py checks this map; ARCHITECTURE.md gives the reasons.
"""
