"""Severity of CVSS vectors."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from nexus.variants import severity

V2 = ("CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P")
V3 = ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")
V4 = ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N")


@pytest.mark.parametrize(("vector", "score", "level"), [(V2, 7.5, "high"), (V3, 9.8, "critical"), (V4, 9.3, "critical")])
def test_each_standard_is_rated(vector: tuple[str, str], score: float, level: str) -> None:
    """Vectors of CVSS 2, 3.1 and 4.0 give the base score and level their specifications define."""
    rated = severity.rate([vector])
    assert (rated.score, rated.level, rated.vector) == (score, level, vector[1])


def test_the_newest_standard_decides() -> None:
    """A record with vectors of several standards is rated by the newest."""
    assert severity.rate([V2, V4, V3]).score == 9.3


@pytest.mark.parametrize("vector", ["", "CVSS:3.1/AV:N", "CVSS:3.1/nonsense", "x" * 500, "CVSS:4.0/AV:Z"])
def test_a_vector_nobody_can_read_is_unknown_with_a_note(vector: str) -> None:
    """A broken vector is unknown, not low, and the note says why."""
    rated = severity.rate([("CVSS_V3" if not vector.startswith("CVSS:4") else "CVSS_V4", vector)])
    assert (rated.score, rated.level) == (None, "unknown")
    assert rated.note


def test_an_unknown_type_and_no_vector_are_unknown() -> None:
    """A severity that is no CVSS vector, and a record without one, are unknown."""
    assert severity.rate([("Ubuntu", "high")]).level == "unknown"
    assert severity.rate([]) is severity.UNKNOWN


def test_without_the_library_the_severity_is_unknown_and_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra `audit` still audits; severities are unknown and say what to install."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "cvss":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "cvss", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    severity._rate.cache_clear()
    rated = severity.rate([V3])
    severity._rate.cache_clear()
    assert (rated.level, rated.note) == ("unknown", severity.MISSING_LIBRARY)


def test_the_worst_of_several_records_counts() -> None:
    """Aliases of one vulnerability are rated by the worst; an unrated one does not hide a rated one."""
    assert severity.worst([severity.UNKNOWN, severity.rate([V2]), severity.rate([V3])]).score == 9.8
    assert severity.worst([]) is severity.UNKNOWN
