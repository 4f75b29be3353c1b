"""Stage 6: what happened, as numbers and sentences. Reads; never changes what it looks at.

status            one document: what /status, the command line and the demo all show
observer          the stateful whole, worked in a thread of its own
names             whom the ids in the counters mean
traffic           the workers' series summed by name, so that no counter ever goes backwards
projections       which label values a flow has in each table
rates             two status documents -> requests/s, success, quantiles, shares
quantile          the arithmetic of histograms
shortcut          what pods did with the kernel short-cut
families          every metric's name, kind, help and labels, declared once
traffic_metrics   ... filled from the series
node_metrics      ... and from the document: pods, hooks, workers, source
identity_metrics  ... its identities
quic_metrics      ... its QUIC process
exposition        families -> Prometheus text
server            a small HTTP/1.1 server, on TCP and on a Unix socket
admin             the agent's paths there
identity_admin    those about identities
chronicle         what became of a pod, told once: for Events; pure
rulings           what policies said, as lines of the log
logs              one JSON object per line
build             which Seine this is
"""
