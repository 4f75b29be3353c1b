"""What the plugin goes by while the agent is away. Pure; the form is stated in cext/cni/rules.h.

Only namespaces can have rules: the plugin is not told a pod's labels. A pod that is `closed` by its own annotation
starts without the agent, and is taken in when the agent is back.
"""

from __future__ import annotations

from collections.abc import Collection


def text(closed: Collection[str]) -> str:
    return "".join(f"closed {namespace}\n" for namespace in sorted(closed))
