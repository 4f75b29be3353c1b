"""Which commands there are."""

from __future__ import annotations

import typer

from mesh.cli import (
    agent,
    authz,
    bug_report,
    check,
    clean,
    controller,
    drain,
    dump,
    enroll,
    identity,
    install,
    metrics,
    nodes,
    status,
    top,
    upgrade,
    version,
    workers,
)

app = typer.Typer(
    name="seine",
    help="An eBPF service mesh without sidecars.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    agent,
    status,
    top,
    nodes,
    authz,
    check,
    drain,
    metrics,
    dump,
    clean,
    upgrade,
    bug_report,
    version,
    workers,
    controller,
):
    app.command(module.NAME)(module.run)
for command in (install.install, install.uninstall, enroll.enroll, enroll.unenroll):
    app.command()(command)
app.add_typer(identity.app, name=identity.NAME)
