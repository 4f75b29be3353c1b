"""Stage 5, forward: carries connections.

engine      the typed face of the C engine; its values only, no state
stats       its counters in shared memory, read and not trusted
authz       who may call a pod, as the engine takes it
messages    what agent and workers say to each other
carrier     the worker's side of that: words -> engine, events -> words
fleet       the agent's side: what every worker should serve, and their requests answered
programs    what is started beside an agent: worker, signer, QUIC process; their locks
supervisor  keeps them alive
signing     the signer: its words, and the agent's side of it
quic        the QUIC process, another way for the same tunnels
"""
