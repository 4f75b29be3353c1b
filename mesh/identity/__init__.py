"""Identities: SPIFFE ids, the certificate authority, its rotation, the node's certificates, and who may call whom."""
