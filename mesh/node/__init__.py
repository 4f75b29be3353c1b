"""What this machine's pods live in: network namespaces, seen by netlink and setns. Knows no mesh."""
