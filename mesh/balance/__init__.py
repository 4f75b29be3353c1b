"""Which endpoint. The choice itself is made in C for every request (cext/balance.c); here is what is decided rarely.

ready    which endpoints of a service port may be chosen at all
ewma     the same arithmetic as the engine's, readable: the definition that tests hold the C against
"""
