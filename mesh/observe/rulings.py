"""What policies said, as lines of the log: who, what, why; at most one a second per policy and verdict, of all workers.

Workers are not believed: ids that nobody has are "unknown", and nothing that could draw on a terminal gets through.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from mesh.model import Ruling, Value
from mesh.observe.logs import Sparingly
from mesh.observe.names import Names, PolicyName

VERDICTS = {
    "denied": "denied",
    "audited": "audited",
    "would_deny": "would be denied (dry run)",
    "would_allow": "would be allowed (dry run)",
}
NOBODY = PolicyName(namespace="", name="unknown", action="")


class Line(Value, frozen=True):
    text: str
    fields: dict[str, str | int]


PodOf = Callable[[int], str | None]  # "NAMESPACE/NAME" of a slot; empty: there is none any more
ClientOf = Callable[[str], str]  # the same of a client's address; empty: unknown


class Rulings:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._sparingly = Sparingly(clock=clock)
        self._missed: Counter[tuple[int, str]] = Counter()

    def lines(self, rulings: Iterable[Ruling], names: Names, pod: PodOf, client: ClientOf) -> Iterator[Line]:
        for ruling in rulings:
            if ruling.verdict not in VERDICTS or (ruling.policy and ruling.policy not in names.policies):
                continue  # of a policy that has gone meanwhile
            key = (ruling.policy, ruling.verdict)
            kept_back = self._sparingly(key)
            self._missed[key] += ruling.missed + (kept_back or 0)
            if kept_back is not None:
                policy = names.policies.get(ruling.policy, NOBODY)
                called = f"{pod(ruling.slot) or 'a pod'}:{ruling.port}"
                yield _line(ruling, policy, client(ruling.client), called, self._missed.pop(key))


def _line(ruling: Ruling, policy: PolicyName, client: str, called: str, missed: int) -> Line:
    identity, request = _clean(ruling.identity), " ".join(filter(None, map(_clean, (ruling.method, ruling.path))))
    if ruling.policy:
        why = f"by AuthorizationPolicy {policy.namespace}/{policy.name}"
        why += f", rule {ruling.rule}" if ruling.rule >= 0 else ", which has no rule for it"
    else:
        why = "because no ALLOW policy has a rule for it"
    who = f"{client + ' ' if client else ''}({ruling.client}:{ruling.client_port}, {identity or 'identity not proven'})"
    more = f"; {missed} more since the last line like it" if missed else ""
    host = f" (host {_clean(ruling.host)})" if ruling.host else ""
    text = f"{who} -> {called}{' ' + request if request else ''}{host} {VERDICTS[ruling.verdict]} {why}{more}"
    fields: dict[str, str | int] = {
        "verdict": ruling.verdict,
        "policy": f"{policy.namespace}/{policy.name}" if ruling.policy else "",
        "rule": ruling.rule,
        "client": ruling.client,
        "identity": identity,
        "destination": called,
        "request": request,
        "missed": missed,
    }
    return Line(text=text, fields=fields)


def _clean(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
