"""Snapshot -> what engine and kernel are told. Pure and deterministic: the same snapshot gives the same values.

plans         what the engine does with a connection to an address
destinations  what the connect hook knows of an address
labels        what metrics call an id
conflicts     what two objects claim; sources leave none, this is the check
"""

from mesh.control.conflicts import conflicts
from mesh.control.destinations import compile_destinations
from mesh.control.labels import Labels, labels
from mesh.control.plans import compile_plans

__all__ = ["Labels", "compile_destinations", "compile_plans", "conflicts", "labels"]
