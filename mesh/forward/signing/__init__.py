"""Handshakes are signed by a process of its own, which has the node's private keys, outlives the agent and is asked by
workers directly from C (cext/signatures.c).

    protocol   its words, and the process itself behind cffi
    desk       the agent's side of it
"""
