"""The benchmark: Seine, no mesh at all and other proxies, in one topology, in one run, interleaved.

    python -m tests.bench http1|tcp|connect|memory|scale [--quick] [--rounds N] [--json FILE] [--peers DIR]

One client pod and one server pod per peer, so that nothing of one peer (an iptables rule, a BPF program, TIME_WAIT) is
met by another. A turn starts the peer, loads it, checks by the peer's own counter that it carried every request, and
stops it; a round is one turn of each peer.

peer.py, app.py, peers/   what is measured: a proxy in its place, the server behind it; one folder per proxy
load.py, stream.py, paced.py, proc.py   the load, and what /proc says meanwhile
http1.py, tcp.py, connect.py, memory.py   the four benches: one turn each, and the ratios made of turns
scale/                    another bench, of one agent in a large cluster; it has no peers
stats.py, bars.py         medians and quartiles, and whether a bar is met; pure
run.py, report.py, machine.py, __main__.py   rounds, the table and the last line, the machine's facts, the command

Choices, alike for everybody: the server is one nginx worker, the client one thread, proxies have two threads, as many
as Seine has workers; nothing is pinned, because the scheduler is part of what a user gets.
"""
