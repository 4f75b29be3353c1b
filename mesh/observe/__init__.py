"""Stage 6: what happened, as numbers and sentences. Reads; never changes what it looks at.

status      one document: what /status, the command line and the demo all show
traffic     the workers' series summed by name, so that no counter ever goes backwards
rates       two status documents -> requests/s, success, quantiles, shares
families    every metric's name, kind, help and labels, declared once
exposition  rows and document -> Prometheus text
observer    the stateful whole, worked in a thread of its own
server      HTTP/1.1 for /metrics /ready /status /dump, on TCP and on a Unix socket
logs        one JSON object per line
"""
