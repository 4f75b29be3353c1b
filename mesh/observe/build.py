"""Which Seine this is."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """Of the installed package; "0+unknown" in a tree that was never installed."""
    try:
        return metadata.version("seine-mesh")
    except metadata.PackageNotFoundError:
        return "0+unknown"
