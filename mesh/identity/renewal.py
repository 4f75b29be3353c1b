"""When a certificate is asked for: at half of its life, spread by chance; and again when that failed. Pure.

Chance is a number in [0, 1), drawn once per certificate or failure, so that a fleet that was started at once does not
come back at once. A certificate that is good is used to its end, whatever the authority does meanwhile.
"""

from __future__ import annotations

RENEW_AT = 0.5  # of its life: what is left is the time in which an authority may be away
RENEW_JITTER = 0.1  # of its life, in both directions
REISSUE_SECONDS = 5.0  # over which nodes spread when another root issues, and old certificates are still good
RETRY_FIRST_SECONDS = 1.0


def renewal(issued: float, not_after: float, chance: float) -> float:
    """When to renew what was issued then (by our own clock: it may have been dated back)."""
    return issued + (not_after - issued) * (RENEW_AT + RENEW_JITTER * (2 * chance - 1))


def reissue(switched: float, chance: float) -> float:
    """When to leave a root that no longer issues since then."""
    return switched + REISSUE_SECONDS * chance


def retry(failures: int, most: float, chance: float) -> float:
    """Seconds to wait after so many failures in a row: doubled each time up to `most`, the second half by chance."""
    full = min(most, RETRY_FIRST_SECONDS * float(1 << min(failures - 1, 20)))
    return full * (0.5 + chance / 2)
