"""How bad an advisory is: base score and level of its CVSS vectors (v2, v3, v4).

The arithmetic is the `cvss` library's (extra ``audit``, imported only here and only when there is something to rate). Without
it, or with a vector nobody can read, the level is ``unknown`` and the note says why: an unknown severity is never a low one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec

LEVELS = ("unknown", "none", "low", "medium", "high", "critical")
MISSING_LIBRARY = "install `algorithm-nexus[audit]` to rate CVSS vectors"
_NEWEST_FIRST = {"CVSS_V4": 0, "CVSS_V3": 1, "CVSS_V2": 2}


class Severity(msgspec.Struct, frozen=True, kw_only=True):
    """A base score (0-10, None when unknown), its level, the vector it comes from, and a note when it is unknown."""

    score: float | None = None
    level: str = "unknown"
    vector: str = ""
    note: str = ""


UNKNOWN = Severity(note="the record carries no severity")


def rate(vectors: Iterable[tuple[str, str]]) -> Severity:
    """The severity of (type, vector) pairs: the newest CVSS standard decides, and within it the worst vector."""
    rated = [(kind, _rate(kind, vector)) for kind, vector in vectors]
    known = [(kind, item) for kind, item in rated if item.score is not None]
    if not known:
        return rated[0][1] if rated else UNKNOWN
    newest = min(_NEWEST_FIRST[kind] for kind, _ in known)
    return max((item for kind, item in known if _NEWEST_FIRST[kind] == newest), key=lambda item: item.score or 0.0)


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of several records of one vulnerability; UNKNOWN when none is rated."""
    return max(severities, key=lambda item: (item.score is not None, item.score or 0.0), default=UNKNOWN)


def level_of(score: float) -> str:
    """The qualitative level of a base score (CVSS v3.1 specification, section 5; v4.0, section 6)."""
    if score <= 0:
        return "none"
    return "low" if score < 4 else "medium" if score < 7 else "high" if score < 9 else "critical"


@lru_cache(maxsize=4096)
def _rate(kind: str, vector: str) -> Severity:
    if kind not in _NEWEST_FIRST:
        return Severity(vector=vector, note=f"severity type `{kind}` is no CVSS vector")
    try:
        import cvss
    except ImportError:
        return Severity(vector=vector, note=MISSING_LIBRARY)
    reader = {"CVSS_V2": cvss.CVSS2, "CVSS_V3": cvss.CVSS3, "CVSS_V4": cvss.CVSS4}[kind]
    try:
        score = float(reader(vector).base_score)
    except (cvss.exceptions.CVSSError, ArithmeticError, ValueError, KeyError, IndexError) as error:
        return Severity(vector=vector, note=f"the vector cannot be read: {' '.join(str(error).split())[:120]}")
    return Severity(score=score, level=level_of(score), vector=vector)
