"""The numbered weaknesses of the reference (`runs-protocol.md` 8), each shown not to be one here, on a real service.

What concerns Kubernetes alone (17, 29) cannot exist here; what only a kill can show (1, 5, 8, 30) is also in `test_kills.py`
and `test_faults.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.scenarios.service import Service, alive, eventually, pids, size

HUGE = {"computeResources": {"requests": {"cpu": "1000", "memory": "64Mi"}}}
UNKNOWN = "01998f00-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all that does not break it."""
    environ = {"NEXUS__MAX_PAYLOAD": "4Mi", "NEXUS__MAX_RUNS": "32", "NEXUS__CPU_MILLICORES": "32000"}
    with Service(tmp_path_factory.mktemp("weaknesses"), environ=environ) as running:
        yield running


@contextlib.contextmanager
def held_back(service: Service, gate: Path, *steps: object) -> Iterator[str]:
    """A run that is stored and cannot start while the block lasts: it wants the whole machine, and another run holds a part."""
    holder = service.submit(["mark", f"{gate}.holder"], ["wait_for", str(gate)], ["report"])
    pids(Path(f"{gate}.holder"))
    try:
        yield service.submit(*steps, customConfiguration=HUGE)
    finally:
        gate.touch()
        service.end(holder)


def begun(service: Service, run_id: str) -> bool:
    """Whether a start of the run was ever begun."""
    assert service.data is not None
    return (service.data / "engine" / "attempts" / run_id).exists()


# ── durability and order ─────────────────────────────────────────────────────────────────────────────────────────────


def test_w02_a_run_is_readable_at_once_everywhere(service: Service) -> None:
    """Results, metadata, tags, buffer and payload of a run are there with its 202, twenty times out of twenty (2)."""
    for number in range(20):
        run_id = service.submit(tag=f"w02-{number}")
        assert service.result(run_id)["requestId"] == run_id
        assert service.metadata(run_id)["id"] == run_id
        assert [row["requestId"] for row in service.json("GET", f"/algorithm/v1/results/tags/w02-{number}")] == [run_id]
        assert service.ask("GET", f"/algorithm/v1/buffer/agent/requests/{run_id}").status == 200
        assert service.ask("GET", f"/algorithm/v1/payload/agent/requests/{run_id}").status == 302


def test_w03_no_rate_holds_accepted_runs_back(service: Service) -> None:
    """Three hundred dry runs are all done before the twenty seconds the reference takes for them (3)."""
    began = time.monotonic()
    body = {"algorithmParameters": {}, "tag": "w03"}
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: service.ask("POST", "/algorithm/v1/run/agent?dryRun=true", body), range(300)))
    assert {answer.status for answer in answers} == {202}
    accepting_s = time.monotonic() - began

    def done() -> bool:
        return all(row["status"] == "COMPLETED" for row in service.json("GET", "/algorithm/v1/results/tags/w03"))

    eventually(done, "three hundred dry runs")
    assert time.monotonic() - began < max(20.0, 3 * accepting_s)  # where accepting alone takes that long, all else does too


def test_w04_a_fast_algorithm_stays_completed(service: Service) -> None:
    """Runs that report the moment they start end COMPLETED and stay so: RUNNING never overwrites an end (4)."""
    runs = [service.submit(["report", f"s3://b/{number}"]) for number in range(10)]
    ended = [service.end(run_id) for run_id in runs]
    assert [run["stage"] for run in ended] == ["COMPLETED"] * 10
    assert [service.run(run_id)["stage"] for run_id in runs] == ["COMPLETED"] * 10


def test_w04_a_report_that_races_the_start_wins(service: Service, tmp_path: Path) -> None:
    """Runs reported the moment they were accepted, while their process is being started, are COMPLETED for good (4)."""
    runs = []
    for number in range(40):
        runs.append(service.submit(["wait_for", str(tmp_path / "gate")], ["say", "late"]))  # none ends before its report
        assert service.complete(runs[-1], f"s3://b/{number}").status == 202
    (tmp_path / "gate").touch()
    service.end(service.submit(["report"]))  # what came later was started and has ended
    eventually(lambda: not any(_processes_of(run_id) for run_id in runs), "the processes that had begun to end")
    shown = [service.run(run_id) for run_id in runs]
    assert [(run["stage"], run.get("resultUri")) for run in shown] == [("COMPLETED", f"s3://b/{number}") for number in range(40)]


def test_w04_a_report_before_the_start_is_stored(service: Service, tmp_path: Path) -> None:
    """A run reported COMPLETED while it still waits is COMPLETED, keeps its result, and is never started (4)."""
    with held_back(service, tmp_path / "gate", ["mark", str(tmp_path / "ran")]) as run_id:
        assert service.run(run_id)["stage"] == "BUFFERED"
        assert service.complete(run_id, "s3://bucket/early").status == 202
        assert service.run(run_id)["stage"] == "COMPLETED"
    after = service.submit(["report"])
    service.end(after)  # what came later was started: the queue has passed by the finished one
    run = service.run(run_id)
    assert (run["stage"], run["resultUri"]) == ("COMPLETED", "s3://bucket/early")
    assert not (tmp_path / "ran").exists()
    assert not begun(service, run_id)


def test_w07_a_run_that_cannot_be_launched_ends_with_its_cause(service: Service) -> None:
    """A command that does not exist makes its run SCHEDULING_FAILED with a cause that names it, never BUFFERED for ever (7)."""
    run = service.end(service.submit(algorithm="missing"), "missing")
    assert run["stage"] == "SCHEDULING_FAILED"
    assert "/no/such/program" in run["failureCause"] + run.get("failureDetails", "")


# ── crashes from outside ─────────────────────────────────────────────────────────────────────────────────────────────


def test_w09_completing_an_unknown_run_is_404(service: Service) -> None:
    """A report for a run that does not exist is answered 404 and harms nobody (9)."""
    assert service.complete(UNKNOWN).status == 404
    assert service.complete("no-id-at-all").status == 404
    assert service.ask("GET", "/health/ready").status == 200


@pytest.mark.parametrize("quantity", ["lots", "", "1e999", "-1", "1 Gi", "NaN", "9" * 400])
def test_w10_a_bad_quantity_is_refused_at_the_door(service: Service, quantity: str) -> None:
    """A quantity nobody can read is 400 with the field's name, and the service lives (10)."""
    body = {"algorithmParameters": {}, "customConfiguration": {"computeResources": {"limits": {"cpu": quantity, "memory": "1Gi"}}}}
    answer = service.ask("POST", "/algorithm/v1/run/agent", body)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert "cpu" in answer.text
    assert service.ask("GET", "/health/ready").status == 200


def test_w10_a_template_with_only_the_required_fields_runs(service: Service) -> None:
    """A template without resources, environment, deadline, workgroup or datadog settings works, with overrides and without (10)."""
    overrides = {"runtimeEnvironment": {"deadlineSeconds": 30}, "workgroupRef": {"name": "fast-machines"}}
    for given in ({}, {"customConfiguration": overrides}):
        run_id = service.submit(algorithm="bare-done", **given)
        assert service.end(run_id, "bare-done")["stage"] == "COMPLETED"
        assert service.metadata(run_id, "bare-done")["applied_configuration"]["container"]["versionTag"] == "v1"


def test_w11_cancel_under_another_algorithms_name_is_404(service: Service) -> None:
    """The right id under another algorithm's name is unknown to cancel and to complete, and the run goes on (11)."""
    run_id = service.submit(["wait_for", "/nowhere"])
    assert service.cancel(run_id, "bare").status == 404
    assert service.complete(run_id, algorithm="bare").status == 404
    assert service.run(run_id)["stage"] in ("BUFFERED", "RUNNING")
    assert service.cancel(run_id).status == 200


@pytest.mark.parametrize(
    "parent",
    [
        {"algorithmName": "agent", "requestId": UNKNOWN},
        {"algorithmName": "agent", "requestId": "nonsense"},
        {"algorithmName": "agent"},
        {"algorithmName": "", "requestId": ""},
    ],
)
def test_w12_an_unknown_parent_is_400(service: Service, parent: dict[str, str]) -> None:
    """A parent that does not exist is the caller's mistake: 400 in text, once, no retry storm (12)."""
    answer = service.ask("POST", "/algorithm/v1/run/agent", {"algorithmParameters": {}, "parentRequest": parent})
    assert answer.status == 400
    assert "%!" not in answer.text


@pytest.mark.parametrize("path", ["results", "metadata", "buffer", "payload", "check"])
def test_w13_unknown_runs_are_404_in_html(service: Service, path: str) -> None:
    """No 404 of v1 is text/plain, which ends the process of the real client (13)."""
    answer = service.ask("GET", f"/algorithm/v1/{path}/agent/requests/{UNKNOWN}")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/html")


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_w14_a_run_cancelled_before_its_start_never_starts(service: Service, tmp_path: Path) -> None:
    """A cancel right after the 202 is 200, and the algorithm is never executed (14)."""
    with held_back(service, tmp_path / "gate", ["mark", str(tmp_path / "ran")]) as run_id:
        assert service.cancel(run_id).status == 200
        assert service.run(run_id)["stage"] == "CANCELLED"
    service.end(service.submit(["report"]))
    assert service.run(run_id)["stage"] == "CANCELLED"
    assert not (tmp_path / "ran").exists()
    assert not begun(service, run_id)


def test_w14_a_cancel_that_races_the_start_wins(service: Service) -> None:
    """Runs cancelled the moment they were accepted are CANCELLED, and none of their processes is left (14)."""
    runs = []
    for _ in range(10):
        run_id = service.submit(["wait_for", "/nowhere"])
        assert service.cancel(run_id).status == 200
        runs.append(run_id)
    assert {service.run(run_id)["stage"] for run_id in runs} == {"CANCELLED"}
    eventually(lambda: not any(_processes_of(run_id) for run_id in runs), "the processes of cancelled runs to go")


def test_w15_cancel_after_the_end_changes_nothing(service: Service) -> None:
    """Cancelling a completed run is 200 and leaves stage, result and times as they were (15)."""
    run_id = service.submit(["report", "s3://b/w15"])
    service.end(run_id)  # by its report: its process ends a moment later
    before = eventually(lambda: over(service.run(run_id)), "the end of its attempt")
    assert service.cancel(run_id).status == 200
    assert service.run(run_id) == before
    assert before["stage"] == "COMPLETED"


def over(run: dict[str, Any]) -> dict[str, Any] | None:
    """The run, when the process of its newest attempt is gone too."""
    return run if run["attempts"][-1]["state"] == "ended" else None


def test_w16_cancelling_a_parent_cancels_the_rows_and_processes_of_its_tree(service: Service, tmp_path: Path) -> None:
    """After a cancel of the root, every run of the tree is CANCELLED and no process of it works on (16)."""
    gate = tmp_path / "marks"
    step = ["mark", str(gate)]
    child = {"do": [["spawn", {"do": [step, ["wait_for", "/nowhere"]]}], step, ["wait_for", "/nowhere"]]}
    root = service.submit(["spawn", child], step, ["wait_for", "/nowhere"])
    eventually(lambda: gate.exists() and len(gate.read_text().split()) == 3, "three generations at work")
    assert service.cancel(root).status == 200
    stages = [run["stage"] for run in service.json("GET", f"/algorithm/latest/runs/agent/{root}/tree")["runs"]]
    assert stages == ["CANCELLED"] * 3
    eventually(lambda: not any(alive(pid) for pid in pids(gate)), "the tree's processes to go")


def test_w16_orphan_ends_the_run_itself(service: Service, tmp_path: Path) -> None:
    """Orphan leaves no process working under CANCELLED: the run's own process ends, its child's goes on (16)."""
    marks, gate = tmp_path / "parent", tmp_path / "gate"
    child_marks = tmp_path / "child"
    child = {"do": [["mark", str(child_marks)], ["wait_for", str(gate)], ["report", "s3://b/child"]]}
    root = service.submit(["spawn", child], ["mark", str(marks)], ["wait_for", "/nowhere"])
    (parent_pid,), (child_pid,) = pids(marks), pids(child_marks)
    assert service.cancel(root, policy="Orphan").status == 200
    eventually(lambda: not alive(parent_pid), "the cancelled process to go")
    assert alive(child_pid)
    gate.touch()
    (child_run,) = service.json("GET", f"/algorithm/latest/runs?parent={root}")["runs"]
    assert service.end(child_run["requestId"])["stage"] == "COMPLETED"


# ── supervision ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_w18_a_vanished_process_is_found(service: Service, tmp_path: Path) -> None:
    """A run whose process and launcher were killed from outside ends FAILED with that cause, not RUNNING for ever (18)."""
    marks = tmp_path / "marks"
    run_id = service.submit(["mark", str(marks)], ["wait_for", "/nowhere"])
    (pid,) = pids(marks)
    launcher = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for victim in (launcher, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    run = service.end(run_id)
    assert run["stage"] == "FAILED"
    assert "lost" in run["failureCause"]


def test_w19_the_state_is_stored_before_the_process_is_ended(service: Service, tmp_path: Path) -> None:
    """While a deaf process is still being ended, its run is CANCELLED already: stored first, effects second (19)."""
    marks = tmp_path / "marks"
    run_id = service.submit(["deaf"], ["mark", str(marks)], ["wait_for", "/nowhere"])
    (pid,) = pids(marks)
    service.reach(run_id, "RUNNING")
    canceller = threading.Thread(target=service.cancel, args=(run_id,))
    canceller.start()
    service.reach(run_id, "CANCELLED")
    eventually(lambda: not alive(pid), "the deaf process to be killed")
    canceller.join()
    assert service.run(run_id)["stage"] == "CANCELLED"


def test_w20_exhausted_retries_are_failed_with_a_cause_said_once(service: Service) -> None:
    """Exhausted retries are FAILED, not DEADLINE_EXCEEDED, with a cause of their own that repeats nothing (20)."""
    run_id = service.submit(["leave", 3], customConfiguration={"runtimeEnvironment": {"maximumRetries": 1}})
    run = service.end(run_id)
    assert (run["stage"], run["attempt"]) == ("FAILED", 2)
    assert run["failureCause"] == "Retries exhausted: 2 attempts failed, the last one: it exited with code 3."
    assert service.result(run_id)["runErrorMessage"] == run["failureCause"]


def test_w20_a_deadline_is_deadline_exceeded(service: Service) -> None:
    """A run past its limit is DEADLINE_EXCEEDED, and the cause names the limit (20)."""
    run_id = service.submit(["wait_for", "/nowhere"], customConfiguration={"runtimeEnvironment": {"deadlineSeconds": 1}})
    run = service.end(run_id)
    assert run["stage"] == "DEADLINE_EXCEEDED"
    assert "(1.0 s)" in run["failureCause"]


def test_w21_a_child_outlives_its_finished_parent(service: Service, tmp_path: Path) -> None:
    """A hard child works on to its own end after its parent has completed and its process has gone (21)."""
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    child = {"do": [["mark", str(marks)], ["wait_for", str(gate)], ["report", "s3://b/grown"]]}
    root = service.submit(["spawn", child], ["wait_for", str(marks)], ["report"])
    assert service.end(root)["stage"] == "COMPLETED"
    eventually(lambda: not _processes_of(root), "the parent's processes to go")
    (pid,) = pids(marks)
    assert alive(pid)
    gate.touch()
    (child_run,) = service.json("GET", f"/algorithm/latest/runs?parent={root}")["runs"]
    assert service.end(child_run["requestId"])["resultUri"] == "s3://b/grown"


# ── configuration and contract ───────────────────────────────────────────────────────────────────────────────────────


def test_w22_overrides_are_what_the_process_gets(service: Service) -> None:
    """Overridden limits and workgroup are stored, shown, and are those of the process (22)."""
    overrides = {
        "computeResources": {"limits": {"cpu": "3", "memory": "700Mi"}},
        "workgroupRef": {"name": "fast-machines", "group": "science.sneaksanddata.com/v1", "kind": "NexusAlgorithmWorkgroup"},
    }
    run_id = service.submit(["environment", "NEXUS__SHARD_NAME", "OMP_NUM_THREADS"], ["report"], customConfiguration=overrides)
    service.end(run_id)
    seen = json.loads(service.output(run_id).splitlines()[0])
    assert seen == {"NEXUS__SHARD_NAME": "shard-7", "OMP_NUM_THREADS": "3"}
    shown = service.metadata(run_id)
    assert shown["applied_configuration"]["computeResources"]["limits"] == {"cpu": "3", "memory": "700Mi"}
    assert shown["applied_configuration"]["workgroupRef"]["name"] == "fast-machines"
    sent = shown["configuration_overrides"]
    assert {name: sent[name] for name in overrides} == overrides


def test_w22_an_unknown_workgroup_is_400(service: Service) -> None:
    """A workgroup nobody registered is refused at the door (22)."""
    body = {"algorithmParameters": {}, "customConfiguration": {"workgroupRef": {"name": "moon"}}}
    answer = service.ask("POST", "/algorithm/v1/run/agent", body)
    assert answer.status == 400
    assert "moon" in answer.text


def test_w23_percent_signs_and_quotes_reach_the_process_as_written(service: Service) -> None:
    """Arguments are no formats, and a quoted word of the command stays one word (23)."""
    run_id = service.submit(["arguments"], ["report"])
    service.end(run_id)
    seen = json.loads(service.output(run_id).splitlines()[0])
    assert seen[1] == f"--request-id={run_id}"
    assert seen[2:] == ["100%", "50%% off", "%d"]
    quoted = service.submit(algorithm="quoted")
    service.end(quoted, "quoted")
    assert service.output(quoted, algorithm="quoted") == b"a  b\n"


def test_w24_names_with_slashes_and_other_letters_are_found(service: Service) -> None:
    """A tag with a slash, a percent sign, a space and other scripts is stored and found percent-encoded; so is a name (24)."""
    run_id = service.submit(tag="a/b%2F c/ж")
    rows = service.json("GET", "/algorithm/v1/results/tags/a%2Fb%252F%20c%2F%D0%B6")
    assert [row["requestId"] for row in rows] == [run_id]
    unknown = service.ask("POST", "/algorithm/v1/run/a%2Fb%252F%20c", {"algorithmParameters": {}})
    assert (unknown.status, "`a/b%2F c`" in unknown.text) == (400, True)  # the route was found, and the name is whole


def test_w24_parameters_keep_their_bytes(service: Service) -> None:
    """Big integers, 1.0, key order and spacing reach the algorithm exactly as they were sent (24)."""
    parameters = b'{"z":9007199254740993,  "a":1.0,"m":{"y":1e400,"x":-0},"u":"\\u00e9\xc3\xa9", "do": []}'
    answer = service.ask("POST", "/algorithm/v1/run/agent", b'{"tag":"w24","algorithmParameters":' + parameters + b"}")
    run_id = answer.json["requestId"]
    link = urlsplit(service.ask("GET", f"/algorithm/v1/payload/agent/requests/{run_id}").headers["location"])
    assert service.ask("GET", f"{link.path}?{link.query}").body == parameters
    service.cancel(run_id)


def test_w25_times_have_a_fixed_width_and_sort_as_text(service: Service) -> None:
    """`received_at` always has six decimals and a Z; sorted as text it is the order of arrival (25)."""
    runs = [service.submit(algorithm="bare-done", tag="w25") for _ in range(20)]
    times = [service.metadata(run_id, "bare-done")["received_at"] for run_id in runs]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time) for time in times)
    assert times == sorted(times)


def test_w26_a_token_that_is_present_counts(service: Service) -> None:
    """A nonsense token is 401 in text on every route that shows a run; without one loopback is the operator (26)."""
    run_id = service.submit(algorithm="bare-done")
    for path in (f"metadata/agent/requests/{run_id}", f"results/agent/requests/{run_id}", "results/tags/x"):
        answer = service.ask("GET", f"/algorithm/v1/{path}", headers={"Authorization": "Bearer nonsense"})
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (401, "text/plain")
    assert service.ask("GET", "/algorithm/v1/results/tags/x", headers={"Authorization": "Bearer "}).status == 200


def test_w26_signed_addresses_are_ours_and_cannot_be_changed(service: Service) -> None:
    """Payload URLs point at the address that was asked, are refused when a part is changed, and stand in no log (26)."""
    first, second = (service.submit(["say", "secret-words"], ["report"]) for _ in range(2))
    link = urlsplit(service.metadata(first)["payload_uri"])
    assert link.netloc == f"127.0.0.1:{service.port}"
    target = f"{link.path}?{link.query}"
    assert service.ask("GET", target).status == 200
    moved = target.replace(first, second)
    later = re.sub(r"to=(\d+)", lambda to: f"to={int(to[1]) + 1}", target)
    shifted = re.sub(r"from=(\d)(\d+)&to=(\d+)", r"from=\1&to=\2\3", target)
    for wrong in (moved, later, shifted, target[:-1], link.path):
        assert service.ask("GET", wrong).status == 403, wrong
    assert service.ask("PUT", target, b"{}").status in (403, 404, 405)
    for run_id in (first, second):
        service.end(run_id)
    log = service.log.read_text()
    assert "sig=" not in log
    assert "secret-words" not in log


def test_w27_health_metrics_description_and_listing_are_there(service: Service) -> None:
    """Health, Prometheus metrics, OpenAPI 3.1, its page and a paged list of runs exist (27)."""
    for _ in range(3):
        service.submit(algorithm="bare-done", tag="w27")
    assert service.ask("GET", "/health/live").status == 200
    assert service.ask("GET", "/health/ready").status == 200
    assert b"# TYPE" in service.ask("GET", "/metrics").body
    assert service.json("GET", "/openapi.json")["openapi"].startswith("3.1")
    page = service.ask("GET", "/docs").text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    first = service.json("GET", "/algorithm/latest/runs?tag=w27&limit=2")
    rest = service.json("GET", f"/algorithm/latest/runs?tag=w27&limit=2&before={first['next']}")
    assert (len(first["runs"]), len(rest["runs"])) == (2, 1)


def test_w27_the_same_key_twice_is_one_run(service: Service) -> None:
    """An Idempotency-Key makes repeats safe, also concurrent ones; another body under it is 422 (27)."""
    body, key = {"algorithmParameters": {"n": 1}}, {"Idempotency-Key": "w27"}
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: service.ask("POST", "/algorithm/v1/run/bare-done", body, key), range(16)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["requestId"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    other = {"algorithmParameters": {"n": 2}}
    assert service.ask("POST", "/algorithm/v1/run/bare-done", other, key).status == 422


@pytest.mark.parametrize("declared", [True, False])
def test_w27_a_body_beyond_the_limit_is_413_and_leaves_nothing(service: Service, declared: bool) -> None:
    """A body beyond the limit is 413, whether its length was declared or not, and leaves no file (27)."""
    body = b'{"algorithmParameters":{"x":"' + b"x" * (4 << 20) + b'"}}'
    connection = service.connect()
    with connection, connection.makefile("rb") as answer:
        how = f"Content-Length: {len(body)}" if declared else "Transfer-Encoding: chunked"
        head = f"POST /algorithm/v1/run/agent HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{how}\r\n\r\n"
        connection.sendall(head.encode())
        with contextlib.suppress(ConnectionError):
            connection.sendall(body if declared else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert b" 413 " in answer.readline()
    eventually(lambda: not [file for file in service.files("objects") if size(file) > 1 << 20], "the spool to be removed")


def test_w28_tag_rows_carry_their_status(service: Service) -> None:
    """Every row of a tag query says algorithm, id and status; retagging moves the run from one tag to the other (28)."""
    run_id = service.submit(["report", "s3://b/w28"], tag="w28")
    service.end(run_id)
    expected = [{"requestId": run_id, "status": "COMPLETED", "resultUri": "s3://b/w28", "algorithmName": "agent"}]
    assert service.json("GET", "/algorithm/v1/results/tags/w28") == expected
    assert service.ask("POST", f"/algorithm/v1/metadata/tags/agent/requests/{run_id}", {"newTag": "w28-new"}).status == 200
    assert service.json("GET", "/algorithm/v1/results/tags/w28") == []
    assert service.json("GET", "/algorithm/v1/results/tags/w28-new") == expected


@pytest.mark.parametrize("value", ["yes", "1", "TRUE", "", "true&dryRun=false"])
def test_new_a_dry_run_that_is_neither_true_nor_false_is_400(service: Service, value: str) -> None:
    """`dryRun=yes` does not silently run for real (found while measuring the reference)."""
    before = service.json("GET", "/algorithm/latest/queue")["stages"]
    assert service.ask("POST", f"/algorithm/v1/run/bare-done?dryRun={value}", {"algorithmParameters": {}}).status == 400
    assert sum(service.json("GET", "/algorithm/latest/queue")["stages"].values()) == sum(before.values())


def test_new_unknown_fields_are_named_once_or_refused(service: Service) -> None:
    """v1 ignores an unknown field and logs its name once; `latest` refuses it by name (found while measuring)."""
    body = {"algorithmParameters": {}, "priorityOfMine": 7}
    for _ in range(3):
        assert service.ask("POST", "/algorithm/v1/run/bare-done", body).status == 202
    refused = service.ask("POST", "/algorithm/latest/run/bare-done", body)
    assert refused.status == 400
    assert "priorityOfMine" in refused.text
    assert service.log.read_text().count("priorityOfMine") == 1


def _processes_of(run_id: str) -> list[int]:
    """Every process that works for a run, by the id in its arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if f"--request-id={run_id}".encode() in (entry / "cmdline").read_bytes() and alive(int(entry.name)):
                found.append(int(entry.name))
    return found
