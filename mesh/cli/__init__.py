"""The command `seine`: one file per command, each importing what it needs only when it runs.

    agent  status  top  nodes  check  drain  identity  metrics  dump  clean  version
    workers  install  uninstall  enroll  unenroll

Everything else here serves them: client (talks to the agent's Unix socket), output (table, json, yaml),
screen and others of its kind (the tables themselves, from values), fitted (tables on narrow terminals).
"""

from __future__ import annotations


def main() -> None:
    """The entry point of the command."""
    from mesh.cli.app import app

    app()
