"""How runs end when their algorithm misbehaves, and what a person is told then. One real service, one run a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.scenarios.service import Service, alive, eventually, pids

LOG_LIMIT_BYTES = 8 << 20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    environ = {"NEXUS__MAX_RUNS": "32", "NEXUS__CPU_MILLICORES": "32000"}
    with Service(tmp_path_factory.mktemp("ends"), environ=environ) as running:
        yield running


def limited(**sections: object) -> dict[str, object]:
    return {"customConfiguration": sections}


def overdue(service: Service, *steps: object, far: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """A run that ended at its deadline after it had come far enough: a slow machine is given more time for that."""
    for seconds in (1, 5, 25, 60):
        run = service.end(service.submit(*steps, **limited(runtimeEnvironment={"deadlineSeconds": seconds})))
        assert run["stage"] == "DEADLINE_EXCEEDED"
        if far(run):
            return run
    raise AssertionError(f"in a minute it did not come far enough: {run}")


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_an_algorithm_forks_ends_with_its_run(service: Service, tmp_path: Path) -> None:
    """A daemon that an algorithm leaves behind, in a session of its own and deaf to SIGTERM, ends when the run has ended."""
    marks = tmp_path / "daemon"
    run_id = service.submit(["daemon", str(marks)], ["report", "s3://b/forked"])
    assert service.end(run_id)["stage"] == "COMPLETED"
    (pid,) = pids(marks)
    eventually(lambda: not alive(pid), "the daemon to be ended")


def test_a_cancel_ends_what_was_forked(service: Service, tmp_path: Path) -> None:
    """A cancel ends the whole process tree of a deaf algorithm, daemons included."""
    daemon, marks = tmp_path / "daemon", tmp_path / "marks"
    run_id = service.submit(["deaf"], ["daemon", str(daemon)], ["mark", str(marks)], ["wait_for", "/nowhere"])
    victims = pids(marks) + pids(daemon)
    assert service.cancel(run_id, policy="Foreground").status == 200
    eventually(lambda: not any(alive(pid) for pid in victims), "all of it to be ended")
    assert service.run(run_id)["failureCause"] == "Cancelled by 'scenario'"


def test_a_deaf_algorithm_cannot_pass_its_deadline(service: Service, tmp_path: Path) -> None:
    """An algorithm that ignores SIGTERM is ended at its deadline all the same."""
    marks = tmp_path / "marks"
    overdue(service, ["deaf"], ["mark", str(marks)], ["wait_for", "/nowhere"], far=lambda run: marks.exists())
    eventually(lambda: not any(alive(pid) for pid in pids(marks)), "the deaf process to be killed")


def test_the_deadline_covers_all_attempts(service: Service) -> None:
    """Endless transient failures end at the deadline, which counts from the first start."""
    overdue(service, ["leave", 75], far=lambda run: run["attempt"] >= 2)


def test_more_memory_than_its_limit_ends_a_run(service: Service) -> None:
    """A run that takes more memory than its limit is FAILED, and the cause names the limit and what it used."""
    resources = {"limits": {"cpu": "1", "memory": "100Mi"}}
    run = service.end(service.submit(["eat", 300_000_000], **limited(computeResources=resources)))
    assert run["stage"] == "FAILED"
    assert "memory limit of 100.0 MiB" in run["failureCause"]


def test_a_crash_names_its_signal(service: Service) -> None:
    """A segmentation fault is FAILED with the signal's name."""
    run = service.end(service.submit(["crash"]))
    assert run["stage"] == "FAILED"
    assert "SIGSEGV" in run["failureCause"]


# ── exit codes and reports ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_end_without_a_report_is_failed_with_that_cause(service: Service) -> None:
    """Exit 0 without a report is FAILED `ended without reporting`; a template may say its exit code is the completion."""
    run = service.end(service.submit(["say", "done"]))
    assert run["stage"] == "FAILED"
    assert "without reporting" in run["failureCause"]
    bare = service.end(service.submit(algorithm="bare"), "bare")
    assert (bare["stage"], bare["failureCause"]) == ("FAILED", run["failureCause"])
    assert service.end(service.submit(algorithm="bare-done"), "bare-done")["stage"] == "COMPLETED"


def test_an_uploaded_result_without_a_report_is_kept(service: Service) -> None:
    """A result that was uploaded before the algorithm forgot to report is kept and linked in the FAILED run."""
    run_id = service.submit(["upload", "forty-two"])
    run = service.end(run_id)
    assert run["stage"] == "FAILED"
    assert "kept" in run["failureDetails"]
    link = urlsplit(run["resultUri"])
    assert service.ask("GET", f"{link.path}?{link.query}").body == b"forty-two"


def test_a_stored_report_beats_the_exit_code(service: Service) -> None:
    """A run that reported and then exits with an error is what it reported."""
    good = service.submit(["report", "s3://b/good"], ["leave", 9])
    bad = service.submit(["report", "", "it went wrong"], ["leave", 0])
    assert service.end(good)["stage"] == "COMPLETED"
    run = service.end(bad)
    assert (run["stage"], run["failureCause"]) == ("FAILED", "it went wrong")
    assert service.run(good)["attempt"] == 1


def test_a_fatal_code_fails_at_once_and_a_transient_one_does_not_count(service: Service) -> None:
    """134 ends a run with retries left; 75 is tried again although no retry is allowed."""
    fatal = service.end(service.submit(["leave", 134], **limited(runtimeEnvironment={"maximumRetries": 5})))
    assert (fatal["stage"], fatal["attempt"]) == ("FAILED", 1)
    again = service.end(service.submit(["only", 1, ["leave", 75]], ["only", 2, ["leave", 75]], ["report"]))
    assert (again["stage"], again["attempt"]) == ("COMPLETED", 3)


def test_reporting_twice_keeps_the_first(service: Service) -> None:
    """The first report decides; a second, other one is answered 202, kept beside the run, and changes nothing."""
    run_id = service.submit(["report", "s3://b/first"], ["report", "", "changed my mind"], ["report", "s3://b/first"])
    service.end(run_id)
    assert service.output(run_id).count(b"report 202") == 3
    run = service.run(run_id)
    assert (run["stage"], run["resultUri"]) == ("COMPLETED", "s3://b/first")
    assert [late["errorCause"] for late in run["lateReports"]] == ["changed my mind"]


def test_a_report_after_cancel_changes_nothing_and_is_recorded(service: Service) -> None:
    """After a cancel v1 answers a report 202 `{}`, latest 409; the run stays CANCELLED and both reports are kept."""
    run_id = service.submit(["wait_for", "/nowhere"])
    assert service.cancel(run_id).status == 200
    old, new = service.complete(run_id, "s3://b/late"), service.complete(run_id, "s3://b/later", api="latest")
    assert (old.status, old.body) == (202, b"{}")
    assert new.status == 409
    run = service.run(run_id)
    assert run["stage"] == "CANCELLED"
    assert [late["resultUri"] for late in run["lateReports"]] == ["s3://b/late", "s3://b/later"]
    assert "resultUri" not in service.result(run_id)
    assert service.json("GET", f"/algorithm/v1/check/agent/requests/{run_id}") == {"is_processed": True}


def test_a_run_speaks_for_itself_only(service: Service) -> None:
    """The token of a run's process is refused for another run's report, and anonymous guesses of a run token are 401."""
    other = service.submit(["wait_for", "/nowhere"])
    path = f"/algorithm/v1/complete/agent/requests/{other}"
    run_id = service.submit(["environment", "NEXUS__RUN_TOKEN"], ["report"])
    service.end(run_id)
    token = json.loads(service.output(run_id).splitlines()[0])["NEXUS__RUN_TOKEN"]
    body = {"resultUri": "s3://b/stolen", "errorCause": "", "errorDetails": ""}
    assert service.ask("POST", path, body, {"Authorization": f"Bearer {token}"}).status == 403
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert service.ask("POST", path, body, {"Authorization": f"Bearer {forged}"}).status == 401
    assert service.run(other)["stage"] in ("BUFFERED", "RUNNING")
    service.cancel(other)


# ── output ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_flood_of_output_stays_bounded(service: Service) -> None:
    """Two hundred megabytes of output leave a log of at most 8 MiB, which begins with the first and ends with the last lines."""
    run_id = service.submit(["say", "first words"], ["flood", 200_000_000], ["say", "last words"], ["report"])
    assert service.end(run_id)["stage"] == "COMPLETED"
    assert service.data is not None
    folder = service.data / "engine" / "attempts" / run_id / "1"
    eventually((folder / "exit").exists, "the end of the attempt, when its log is whole")
    assert not list(folder.glob("stdout.*"))
    text = (folder / "stdout").read_bytes()
    assert text.endswith(b"report 202\n")
    assert len(text) <= LOG_LIMIT_BYTES + 200
    assert text.startswith(b"first words\n")
    assert b"last words" in text[-1000:]
    assert b"left out" in text


def test_binary_output_keeps_its_bytes(service: Service) -> None:
    """A log may hold any bytes; they come back as they were written, as a download nobody would execute."""
    run_id = service.submit(["binary", 25_600], ["report"])
    service.end(run_id)
    service.output(run_id)
    answer = service.ask("GET", f"/algorithm/latest/runs/agent/{run_id}/logs/stdout?limit=25600")
    assert answer.body == bytes(range(256)) * 100
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


# ── results that are not theirs ──────────────────────────────────────────────────────────────────────────────────────


def test_a_file_in_the_runs_own_folder_is_served_by_a_signed_address(service: Service) -> None:
    """A result left in the run's own folder is read by a signed URL made at read time."""
    run_id = service.submit(["report_own_file", "own words"])
    run = service.end(run_id)
    link = urlsplit(run["resultUri"])
    assert service.ask("GET", f"{link.path}?{link.query}").body == b"own words"
    assert service.ask("GET", link.path).status == 403


@pytest.mark.parametrize(
    "uri", ["/etc/passwd", "file:///etc/passwd", "nexus:payloads/x", "nexus:results/../keys.json", "../../keys"]
)
def test_a_forged_result_is_handed_back_and_never_opened(service: Service, uri: str) -> None:
    """A resultUri that leads elsewhere comes back verbatim, unsigned."""
    run_id = service.submit(["report", uri])
    assert service.end(run_id)["resultUri"] == uri
    assert service.result(run_id)["resultUri"] == uri


def test_the_folder_of_another_run_is_not_signed(service: Service) -> None:
    """A run that reports a file in another run's folder, plain or through `..`, gets its text back, no signature."""
    victim = service.submit(["report_own_file", "private"])
    service.end(victim)
    assert service.data is not None
    folder = service.data / "objects" / "results"
    for uri in (f"{folder}/{victim}/own.txt", f"nexus:results/{victim}/own.txt", f"file://{folder}/x/../{victim}/own.txt"):
        thief = service.submit(["report", uri])
        assert service.end(thief)["resultUri"] == uri


def test_a_link_out_of_the_runs_folder_is_never_followed(service: Service) -> None:
    """A symbolic link in the run's own folder is not served, wherever it leads."""
    run_id = service.submit(["report_link", "/etc/passwd"])
    run = service.end(run_id)
    link = urlsplit(run["resultUri"])
    if link.scheme:
        answer = service.ask("GET", f"{link.path}?{link.query}")
        assert answer.status == 404
        assert b"root:" not in answer.body


def test_an_upload_beyond_the_end_is_refused(service: Service) -> None:
    """The upload URL of a run that has ended stores nothing any more."""
    run_id = service.submit(["environment", "NEXUS__RESULT_UPLOAD_URL"], ["report", "s3://b/x"])
    service.end(run_id)
    address = urlsplit(json.loads(service.output(run_id).splitlines()[0])["NEXUS__RESULT_UPLOAD_URL"])
    assert service.ask("PUT", f"{address.path}?{address.query}", b"late").status == 409
    assert service.run(run_id)["resultUri"] == "s3://b/x"
