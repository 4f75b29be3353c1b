"""The tables of `seine identity`, made from values and the time."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.text import Text

from mesh.cli.screen import duration, row, table_of
from mesh.observe.status import IdentityStatus, Rotation


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else "-"


def _certificates(identity: IdentityStatus, now: float) -> RenderableType:
    if not identity.certificates:
        return Text("no identities: no pod of this node is in the mesh")
    shown = table_of("IDENTITY", "SERIAL", "NOT AFTER", "REMAINING", "ROOT", "DETAIL", right=("REMAINING",))
    for each in identity.certificates:
        left = duration(max(0.0, each.not_after - now)) if each.serial else "-"
        detail = each.problem or ("" if each.serial else "on its way")
        row(shown, each.name, each.serial or "-", _time(each.not_after), left, each.root or "-", detail)
    return shown


def _roots(identity: IdentityStatus, now: float) -> RenderableType:
    if not identity.roots:
        return Text(f"no roots: {identity.problem or 'the authority was not asked yet'}", style="bold red")
    shown = table_of("ROOT", "STATE", "NOT AFTER", "REMAINING", right=("REMAINING",))
    for root in identity.roots:
        row(shown, root.id, root.state, _time(root.not_after), duration(max(0.0, root.not_after - now)))
    return shown


def screen(identity: IdentityStatus, now: float) -> RenderableType:
    answered = f"answered {duration(now - identity.answered_at)} ago" if identity.answered_at else "never answered"
    parts: list[RenderableType] = [Text(f"authority: {identity.authority}, {answered}")]
    if identity.problem:
        parts.append(Text(identity.problem, style="bold red"))
    parts += [Text(""), _certificates(identity, now), Text(""), _roots(identity, now)]
    if identity.denied:
        shown = table_of("DENIED", "UNTIL", "REASON")
        for each in identity.denied:
            row(shown, each.what, _time(each.until), each.reason)
        parts += [Text(""), shown]
    return Group(*parts)


def rotation(found: Rotation, now: float) -> RenderableType:
    parts: list[RenderableType] = [Text(found.sentence)]
    if found.nodes:
        shown = table_of("NODE", "CERTIFICATES", "LAST ENDS IN", "HEARD", "READY", "DETAIL", right=("CERTIFICATES",))
        for node in found.nodes:
            ends = duration(max(0.0, node.until - now)) if node.until else "-"
            heard = f"{duration(max(0.0, now - node.heard_at))} ago" if node.heard_at else "never"
            ready = Text("no", style="yellow") if node.obstacle else Text("yes", style="green")
            row(shown, node.node, str(node.certificates), ends, heard, ready, node.obstacle)
        parts += [Text(""), shown]
    return Group(*parts)
