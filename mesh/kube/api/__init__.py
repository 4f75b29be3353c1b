"""The API server as a source: bytes -> events -> facts -> Snapshot, for ever.

    http1        bytes of a response -> head and body; pure
    decode       pages of a list and lines of a watch -> events; pure
    backoff      when to try again; pure
    access       where the API server is, and as whom we come: the pod's service account, or a kubeconfig
    kubeconfig   a child process that reads a kubeconfig with the package `kubernetes`
    client       requests over one connection at a time: the only sockets of this package
    requests     single questions, several at a time: all that is no list that is followed
    bundle       ... of them, text in a ConfigMap, kept until it does not help
    watching     three stacked generators per kind: once, from a list until 410, for ever
    source       what is known of all kinds, as snapshots
    lookup       one pod, asked for before our watch knows it
    publication  what this node says of itself, and that it lives
    events       what became of a pod, as an Event; pure

Own client on asyncio's streams rather than a library: measured, importing aiohttp adds 15 MiB to the agent, httpx 6 and
a parser in Python for every byte of a list, the typed client of the package `kubernetes` 25; this one 0.3. It speaks to
one server that we trust, over connections that carry one request at a time.
"""
