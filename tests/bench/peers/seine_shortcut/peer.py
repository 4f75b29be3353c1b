"""Seine, with the kernel short-cut on for both pods: the two legs of a request skip the TCP/IP stack."""

from __future__ import annotations

from tests.bench.peers.seine.peer import Seine


class SeineShortcut(Seine):
    shortcut = "enabled"

    def start(self) -> None:
        """A short-cut that its own self-test turned off would be measured as plain Seine: refused."""
        super().start()
        found = self.mesh.status()["shortcut"]
        if not found["available"]:
            raise RuntimeError(f"the kernel short-cut is off: {found['detail'] or 'no reason given'}")
