"""Identities: SPIFFE ids, the certificate authority, its rotation, the node's certificates, and who may call whom.

Names, and who somebody is:

spiffe       ids, read strictly
certificate  X.509 as SPIFFE wants it, read and checked
issue        the same, written: roots, certificates, requests
peer         who a peer is, by the certificates it shows
denial       who is denied, and for how long; pure

A node's certificates:

keeper   asks for them, renews them, tells who needs them
holding  what is held at one moment, and what of it is due; pure
renewal  when a certificate is asked for; pure
issued   names of who had one, for the agent's successor

The authority:

authority  what it is to a node, and the values that go between them
embedded   the authority itself
state      its files as values: whom to believe, what signs
files      what it is kept in, as an interface
store      a directory that has it (objects of a cluster do, too: mesh.controlplane.keeping)
rotation   one root takes the place of another; pure
handed     a root that somebody else made; pure
remote     an authority elsewhere, asked by a node
server     the other end of that
wire       what they say to each other

What policies mean:

authz    whether a pod may be called; the definition that tests hold the C against
explain  why, rule by rule
normal   the one spelling of a path that rules are compared with
"""
