"""What the controller does: the certificate authority of a cluster, and what is said of our objects.

election     who leads: a decision from a Lease and our own clock; pure
leading      tries to, for ever
node_rule    which agent may have a certificate for whom; pure
gate         asks the API server about both
keeping      the authority's state as objects of the cluster
rooting      the first root, one that is handed in, a rotation's steps, whom everybody believes
serving      the authority's own certificate for HTTPS
verdicts     what is to be said of a policy; pure
statuses     says it
departed     takes away what agents said whose nodes are gone
metrics      what the controller tells of itself
"""
