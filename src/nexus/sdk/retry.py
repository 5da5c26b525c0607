"""When to try a request again. Pure; shared by the client and the algorithm side, which have different HTTP stacks."""

from __future__ import annotations

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_FIRST_S = 0.1
_LONGEST_S = 5.0


def delay_s(attempt: int, chance: float, retry_after_s: float | None = None) -> float:
    """Seconds before the next try after try number *attempt* (from 1).

    Exponential with full jitter above one half (*chance* in 0–1): clients that failed together do not come back together.
    A server's ``Retry-After`` is a lower bound.
    """
    ceiling = min(_LONGEST_S, _FIRST_S * 2.0 ** (attempt - 1))
    return max(ceiling * (0.5 + chance / 2), retry_after_s or 0.0)


def retry_after_s(header: str | None) -> float | None:
    """The seconds a ``Retry-After`` header asks for; None when there is none that counts seconds."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return None
