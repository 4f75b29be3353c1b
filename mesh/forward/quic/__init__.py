"""HBONE's meaning over HTTP/3 (RFC 9114) and QUIC (RFC 9000): one process per node, UDP 15008, for lossy links.

    node         all of the process but its start
    messages     what it says to agent and workers
    door         the workers' side of it: connections asked for and handed over
    pool         tunnels to other nodes, by source, target and node
    serving      what other nodes ask of this one's pods
    fallback     when a node is rather reached by HBONE: decided here
    tunnel       one connection as HBONE uses it: requests, pipes, going away
    pipe         one stream and the local connection that it carries
    local        pairs of loopback connections for workers
    connect      HBONE's words as fields of HTTP/3
    address      IP:PORT as text
    http3        CONNECT over HTTP/3: bytes in, events and bytes out
    endpoint     the UDP port: whose connection a datagram is, and when each one sends
    gate         whether somebody unknown may begin one: decided here
    connection   one QUIC connection: aioquic with a limit on everything
    recovery     losses told, and packets paced
    congestion   how much may be under way and how fast it leaves: decided here
    repeats      small frames once more, where packets are lost: decided here
    windows      how much a peer may send: decided here
    floods       how often a peer may do what costs us and not it: decided here
    handshake    mutual TLS 1.3 on aioquic, with keys that stay in the signer
    credentials  who we are and whom we believe, as the agent told it
    signer       signatures, asked of the signer
    name         what a client calls the identity it wants, so that nobody on the wire can read it
    wire         the UDP socket, in batches
    datagrams    datagrams as bytes: whose, what, how many of a batch
    caller       a worker's side of the process
    desk         the agent's side of it

aioquic and what it brings (34 MiB) is imported by this process alone: caller, desk, messages and address do without.
"""
