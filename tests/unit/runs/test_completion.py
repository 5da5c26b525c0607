"""Reports: stored before they are answered, the first one decides, later ones are kept beside the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus.kernel.errors import RunNotFound
from nexus.runs.model import Report, Stage
from tests.unit.runs.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def tell(rig: Rig, run_id: str, uri: str = "", cause: str = "") -> bool:
    report = Report(received_at=rig.clock.now(), result_uri=uri, error_cause=cause)
    return rig.do(rig.life.completion.report("demand", run_id, report))


def late(rig: Rig, run_id: str) -> list[str]:
    return [report.result_uri or report.error_cause for report in rig.do(rig.store.late_reports(run_id))]


def test_the_first_report_decides(rig: Rig) -> None:
    """A second, different one is kept beside the run and changes nothing."""
    run_id = rig.begin()
    assert tell(rig, run_id, "one")
    assert not tell(rig, run_id, "two")
    assert (rig.run(run_id).result_uri, late(rig, run_id)) == ("one", ["two"])


@pytest.mark.parametrize(("uri", "cause"), [("one", ""), ("", "ValueError")])
def test_a_report_said_again_is_no_late_report(rig: Rig, uri: str, cause: str) -> None:
    """Clients repeat a report whose answer they did not see: nothing is kept of the repeat."""
    run_id = rig.begin()
    tell(rig, run_id, uri, cause)
    assert not tell(rig, run_id, uri, cause)
    assert late(rig, run_id) == []


def test_a_report_after_a_cancel_is_late(rig: Rig) -> None:
    """The run stays CANCELLED; what its algorithm still said is kept."""
    run_id = rig.begin()
    rig.cancel(run_id)
    rig.settle()
    assert not tell(rig, run_id, "one")
    assert (rig.run(run_id).stage, late(rig, run_id)) == (Stage.CANCELLED, ["one"])


def test_an_upload_is_kept_though_the_algorithm_never_reports(rig: Rig) -> None:
    """Exit 0 without a report fails the run; its uploaded result stays linked, and the details say so."""
    run_id = rig.begin()
    uri = rig.do(rig.life.completion.uploaded("demand", run_id, f"results/{run_id}/result"))
    rig.finish(run_id)
    run = rig.run(run_id)
    assert (run.stage, run.result_uri) == (Stage.FAILED, uri)
    assert "kept" in (run.failure_details or "")


def test_a_report_without_an_address_keeps_the_upload(rig: Rig) -> None:
    """COMPLETED with the uploaded result when the report names none."""
    run_id = rig.begin()
    uri = rig.do(rig.life.completion.uploaded("demand", run_id, f"results/{run_id}/result"))
    tell(rig, run_id)
    assert (rig.run(run_id).stage, rig.run(run_id).result_uri) == (Stage.COMPLETED, uri)


def test_a_report_for_nobody_is_refused_and_leaves_nothing_under_way(rig: Rig) -> None:
    """An unknown id is an error of the caller (weakness 9); nobody waits for it afterwards."""
    with pytest.raises(RunNotFound):
        tell(rig, "00000000-0000-7000-8000-00000000ffff")
    rig.do(rig.life.completion.settled("00000000-0000-7000-8000-00000000ffff"))
