"""A real service whose wall clock is set while it works: nothing is lost, hurried, held up or started twice by that.

The clock of the service, its fork server and its launchers is moved by ``wallclock/sitecustomize.py``, at once and as often as a
scenario wants; the test and the algorithms keep the real one, as callers on other machines would.
"""

from __future__ import annotations

import email.utils
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.scenarios.service import Answer, Service, alive, eventually, free_port, pids

pytestmark = pytest.mark.faults

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JUMPS = [pytest.param(sign * step, id=f"{'+' if sign > 0 else '-'}{step}") for step in (HOUR, DAY) for sign in (1, -1)]
HUGE = {"computeResources": {"requests": {"cpu": "1000", "memory": "64Mi"}}}  # starts when nothing else is there
SLACK = timedelta(minutes=10)  # around an hour: whose clock it was, not how fast the machine is


class WallClock:
    """The wall clock of one service, over all its lives."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(timedelta())

    def set(self, ahead: timedelta) -> None:
        """From now on it is ahead of the real one by this much."""
        with self._file.open("r+b" if self._file.exists() else "wb", buffering=0) as file:  # in place: it is mapped
            file.write((ahead // timedelta(microseconds=1)).to_bytes(8, "little", signed=True))

    @property
    def environ(self) -> dict[str, str]:
        """What a service needs to have this clock."""
        first = str(Path(__file__).with_name("wallclock"))
        path = os.pathsep.join(filter(None, [first, os.environ.get("PYTHONPATH")]))
        return {"SCENARIO_WALL_CLOCK": str(self._file), "PYTHONPATH": path}


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path / "clock")


@pytest.fixture
def service(tmp_path: Path, clock: WallClock) -> Iterator[Service]:
    """A service with that clock, on a machine with room for all runs of a scenario."""
    environ = {**clock.environ, "NEXUS__RETRY_PAUSE": "4s", "NEXUS__MAX_RUNS": "32", "NEXUS__CPU_MILLICORES": "32000"}
    with Service(tmp_path, environ=environ) as running:
        yield running


def ahead(shown: str) -> timedelta:
    """How far a time the service shows is ahead of ours."""
    return datetime.fromisoformat(shown) - datetime.fromtimestamp(time.time()).astimezone()


def id_ahead(run_id: str) -> timedelta:
    """The same of the milliseconds in an id."""
    return timedelta(milliseconds=int(run_id.replace("-", "")[:12], 16)) - timedelta(seconds=time.time())


def date_ahead(service: Service) -> timedelta:
    """The same of the Date of an answer."""
    return ahead(email.utils.parsedate_to_datetime(service.ask("GET", "/health/live").headers["date"]).isoformat())


def limited(**environment: object) -> dict[str, object]:
    return {"customConfiguration": {"runtimeEnvironment": environment}}


def get(service: Service, url: str) -> Answer:
    """The answer to a signed address."""
    link = urlsplit(url)
    return service.ask("GET", f"{link.path}?{link.query}")


def listed(service: Service) -> list[str]:
    """Every run, newest first, in pages of three."""
    found: list[str] = []
    cursor = ""
    while True:
        page: dict[str, Any] = service.json("GET", f"/algorithm/latest/runs?limit=3{cursor}")
        found += [run["requestId"] for run in page["runs"]]
        if "next" not in page:
            return found
        cursor = f"&before={page['next']}"


def lock_of(service: Service, run_id: str) -> dict[str, Any]:
    """What the launcher of a run's first attempt wrote when it took the lock."""
    assert service.data is not None
    found: dict[str, Any] = json.loads((service.data / "engine" / "attempts" / run_id / "1" / "lock").read_text())
    return found


@pytest.mark.parametrize("jump", JUMPS)
def test_the_jump_reaches_every_clock_of_the_service(service: Service, clock: WallClock, tmp_path: Path, jump: timedelta) -> None:
    """What the other scenarios rest on: records, ids, the Date of answers, the log and the launcher all have the moved clock."""
    clock.set(jump)
    run_id = service.submit(["wait_for", str(tmp_path / "gate")], ["report"])
    shown = service.reach(run_id, "RUNNING")
    for name in ("receivedAt", "sentAt", "startedAt", "lastModified"):
        assert abs(ahead(shown[name]) - jump) < SLACK, name
    taken = timedelta(microseconds=lock_of(service, run_id)["taken_us"]) - timedelta(seconds=time.time())
    assert abs(taken - jump) < SLACK
    assert abs(id_ahead(run_id) - max(jump, timedelta())) < SLACK  # ids never step back
    eventually(lambda: abs(date_ahead(service) - jump) < SLACK, "the Date of answers, made once a second, to follow")


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_costs_no_run_anything(service: Service, clock: WallClock, tmp_path: Path, jump: timedelta) -> None:
    """Runs that work, wait, retry, have a deadline or hold signed addresses when the clock jumps end as if it had not."""
    gate, began = tmp_path / "gate", tmp_path / "began"
    work = (["mark", str(began)], ["wait_for", str(gate)], ["read_again"], ["report_upload", "kept"])
    fails = (["mark", str(began)], ["only", 1, ["wait_for", str(gate)]], ["only", 1, ["leave", 3]], ["report_upload", "twice"])
    fails_now = (["only", 1, ["leave", 3]], ["report_upload", "twice"])
    again = limited(deadlineSeconds=600, maximumRetries=1)
    working = [service.submit(*work), service.submit(*work, **limited(deadlineSeconds=600)), service.submit(*fails, **again)]
    eventually(lambda: len(pids(began)) == 3, "three at work")
    working.append(service.submit(*fails_now, **again))
    eventually(lambda: service.json("GET", "/algorithm/latest/queue")["waiting"], "the pause between two attempts")
    working.append(service.submit(["report_upload", "at last"], customConfiguration=HUGE))
    page = service.json("GET", "/algorithm/latest/runs?limit=2")
    held = service.metadata(working[0])["payload_uri"]

    clock.set(jump)
    assert get(service, held).status == 200
    rest = service.json("GET", f"/algorithm/latest/runs?limit=1000&before={page['next']}")
    assert [run["requestId"] for run in page["runs"] + rest["runs"]] == working[::-1]
    working.append(service.submit(*work))
    gate.touch()
    ends = [service.end(run_id) for run_id in working]
    assert [(end["stage"], end.get("failureCause")) for end in ends] == [("COMPLETED", None)] * 6
    assert [end["attempt"] for end in ends] == [1, 1, 2, 2, 1, 1]
    assert len(set(pids(began))) == len(pids(began)) == 5  # four, and the second attempt of the one that failed
    for run_id in (working[0], working[1], working[5]):
        assert b"payload 200" in service.output(run_id)

    clock.set(timedelta())
    working.append(service.submit(["report_upload", "back again"]))
    assert service.end(working[-1])["attempt"] == 1
    assert all(get(service, end["resultUri"]).status == 200 for end in ends)
    assert listed(service) == working[::-1] == sorted(working, reverse=True)


@pytest.mark.parametrize("jump", JUMPS[2:])
def test_a_deadline_is_kept_by_time_that_passes(service: Service, clock: WallClock, tmp_path: Path, jump: timedelta) -> None:
    """A run that works, and one that fails over and over, end at their deadline although the clock was set meanwhile."""
    for seconds in (8, 40):  # a slow machine is given more time to come to a second attempt
        clock.set(timedelta())
        runs = [
            service.submit(["wait_for", "/nowhere"], **limited(deadlineSeconds=seconds)),
            service.submit(["leave", 75], **limited(deadlineSeconds=seconds)),
        ]
        eventually(lambda ids=runs: all(service.run(run_id).get("startedAt") for run_id in ids), "both begun")
        clock.set(jump)
        working, failing = (service.end(run_id) for run_id in runs)
        assert (working["stage"], failing["stage"]) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        if failing["attempt"] >= 2:
            return
    raise AssertionError("the jump itself was taken for time that passed")


@pytest.mark.parametrize("jump", [-HOUR, -DAY], ids=["-1h", "-1d"])
def test_a_clock_set_back_prolongs_no_signed_address(service: Service, clock: WallClock, jump: timedelta) -> None:
    """An address that was good for two seconds is refused after them, however far back the clock is set."""
    for seconds in (2, 10, 60):  # a slow machine is given more time to use one
        run_id = service.submit(["wait_for", "/nowhere"], payloadValidFor=f"{seconds}s")
        held = service.metadata(run_id)["payload_uri"]
        if get(service, held).status == 200:
            break
    else:
        raise AssertionError("no address was good for a minute")
    clock.set(jump)
    eventually(lambda: get(service, held).status == 403, "the address to expire")
    assert "expired" in get(service, held).text


@pytest.mark.parametrize("jump", JUMPS)
def test_a_clock_set_while_the_service_was_away_costs_nothing(
    service: Service, clock: WallClock, tmp_path: Path, jump: timedelta
) -> None:
    """The next start adopts, retries in time, keeps the order of ids, and serves the addresses that runs were started with."""
    gate, began = tmp_path / "gate", tmp_path / "began"
    service.stop()
    service.flags = ("--port", str(free_port()))  # the algorithm reports to the address it was given
    service.start()
    work = (["mark", str(began)], ["wait_for", str(gate)], ["read_again"], ["report_upload", "kept"])
    runs = [
        service.submit(*work),
        service.submit(["only", 1, ["leave", 3]], ["report_upload", "twice"], **limited(maximumRetries=1)),
    ]
    (pid,) = pids(began)
    service.reach(runs[0], "RUNNING")
    eventually(lambda: service.json("GET", "/algorithm/latest/queue")["waiting"], "the pause between two attempts")
    runs.append(service.submit(["report_upload", "at last"], customConfiguration=HUGE))
    held = service.metadata(runs[0])["payload_uri"]
    service.kill()
    clock.set(jump)
    service.start()
    assert get(service, held).status == 200
    assert service.end(runs[1])["attempt"] == 2
    runs.append(service.submit(["report_upload", "fresh"]))
    assert alive(pid)
    gate.touch()
    ends = [service.end(run_id) for run_id in runs]
    assert [(end["stage"], end["attempt"]) for end in ends] == [
        ("COMPLETED", 1),
        ("COMPLETED", 2),
        ("COMPLETED", 1),
        ("COMPLETED", 1),
    ]
    assert b"payload 200" in service.output(runs[0])
    assert pids(began) == [pid]
    assert listed(service) == runs[::-1] == sorted(runs, reverse=True)
