"""The command `seine`: one file per command, each importing what it needs only when it runs.

    agent  status  top  nodes  authz  check  drain  identity  metrics  dump  clean  version  workers  controller
    install  uninstall  upgrade  enroll  unenroll  bug-report

They stand in app. Everything else here serves them: client and hooks (a node's agent, asked or away), kubectl (a
cluster), output (table, json, yaml), screen and identity_screen (the tables themselves, from values), fitted (tables on
narrow terminals), report, judge and cluster (what `check` thinks of what it finds), secrets (what must not leave with a
bug report).
"""

from __future__ import annotations


def main() -> None:
    """The entry point of the command."""
    from mesh.cli.app import app

    app()
