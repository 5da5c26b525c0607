"""What is logged of a run's end."""

from __future__ import annotations

import logging

import pytest

from nexus.app.telemetry import tell_stage
from nexus.runs import lifecycle
from nexus.runs.model import Report
from nexus.runs.ports import Change
from tests.unit.runs.test_lifecycle import LATER, NOW, run


def test_what_an_algorithm_reports_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The text of an algorithm's error may quote its payload: the log says that it reported one, the run says which."""
    begun = lifecycle.started(run(), "uid", 1, NOW)
    failed = lifecycle.reported(begun, Report(received_at=LATER, error_cause="ValueError: MARKER", error_details="MARKER"))
    judged = lifecycle.ended(begun, failed.stage, "Algorithm failed: it exited with code 3.", "", LATER)
    with caplog.at_level(logging.INFO):
        tell_stage(Change(before=begun, after=failed))
        tell_stage(Change(before=begun, after=judged))
    causes = [record.__dict__["fields"]["cause"] for record in caplog.records]
    assert causes == ["reported by the algorithm", "Algorithm failed: it exited with code 3."]
