"""What became of a pod, as an Event of Kubernetes: core/v1, which every tool shows. Pure.

Its name is a digest of what it says of whom, so that an agent that starts anew does not say it again: the server
refuses the second (409) for as long as it keeps the first, an hour by default.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

MESSAGE_CHARS_MAX = 1024  # the API server's own limit
NAME_CHARS_MAX = 253
COMPONENT = "seine-agent"


def event(
    node: str, uid: str, namespace: str, name: str, reason: str, message: str, warning: bool, now: datetime
) -> dict[str, Any]:
    digest = hashlib.blake2b("\0".join((uid, reason, message)).encode(), digest_size=8).hexdigest()
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name[: NAME_CHARS_MAX - 17]}.{digest}", "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid},
        "reason": reason,
        "message": message[:MESSAGE_CHARS_MAX],
        "type": "Warning" if warning else "Normal",
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
