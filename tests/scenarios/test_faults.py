"""What breaks around a service: its folder, its disk, its process, its callers. Most need a service of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.durable import small_disk
from tests.scenarios.service import Service, alive, eventually, free_port, pids, size

pytestmark = pytest.mark.faults


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Service]:
    """A service for one scenario alone."""
    with Service(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all callers that cannot break it."""
    with Service(tmp_path_factory.mktemp("faults"), environ={"NEXUS__MAX_RUNS": "32", "NEXUS__MAX_PAYLOAD": "16Mi"}) as running:
        yield running


def head(length: int | str, *more: str) -> bytes:
    """The head of a POST of a run; *length* may be ``chunked``."""
    how = "Transfer-Encoding: chunked" if length == "chunked" else f"Content-Length: {length}"
    lines = ["POST /algorithm/v1/run/bare-done HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", how, *more]
    return "\r\n".join([*lines, "", ""]).encode()


def spools(service: Service) -> list[Path]:
    """Every file of the objects' folder: spools under way and payloads."""
    return service.files("objects")


# ── the folder and the disk ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_service_on_the_folder_is_refused(own: Service, tmp_path: Path) -> None:
    """A second service on a data folder ends at once, says who holds it, and the first goes on."""
    (tmp_path / "second").mkdir()
    said = Service(tmp_path / "second", data=own.data).refused()
    assert "error[NX" in said
    assert str(own.data) in said
    assert "Traceback" not in said
    assert own.end(own.submit(["report"]))["stage"] == "COMPLETED"


def test_a_read_only_folder_is_refused_in_words(tmp_path: Path) -> None:
    """A data folder on a read-only disk ends the start with an error that names it, without a traceback."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        said = Service(tmp_path, data=disk / "data").refused()
    assert "error[NX" in said
    assert str(disk) in said
    assert "Traceback" not in said


@pytest.mark.parametrize("size", [300, 200_000])
def test_a_full_disk_is_507_keeps_nothing_and_recovers(tmp_path: Path, size: int) -> None:
    """With no room left a POST is 507 and leaves nothing; what was accepted is intact; with room again runs are accepted."""
    body = {"algorithmParameters": {"x": "y" * size}, "tag": "full"}
    with small_disk(tmp_path / "disk", "24m") as disk, Service(tmp_path, data=disk, flags=("--dispatch", "paused")) as service:
        kept = [service.ask("POST", "/algorithm/v1/run/bare-done", body).json["requestId"] for _ in range(3)]
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        answers = [service.ask("POST", "/algorithm/v1/run/bare-done", body) for _ in range(200 if size < 1000 else 5)]
        kept += [answer.json["requestId"] for answer in answers if answer.status == 202]  # there was room in files already made
        assert {answer.status for answer in answers} <= {202, 507}
        assert answers[-1].status == 507
        assert "room" in answers[-1].text or "full" in answers[-1].text
        assert service.ask("GET", "/health/live").status == 200
        ballast.unlink()
        again = service.ask("POST", "/algorithm/v1/run/bare-done", body)
        assert again.status == 202
        kept.append(again.json["requestId"])
        rows = service.json("GET", "/algorithm/v1/results/tags/full")
        assert sorted(row["requestId"] for row in rows) == sorted(kept)
        service.kill()
        service.start()
        rows = service.json("GET", "/algorithm/v1/results/tags/full")
        assert sorted(row["requestId"] for row in rows) == sorted(kept)
        files = [file for file in spools(service) if "payloads" in file.parts]
        assert sorted(file.name for file in files) == (sorted(kept) if size > 1000 else [])


def test_a_completion_on_a_full_disk_is_refused_and_can_be_repeated(tmp_path: Path) -> None:
    """A report that cannot be stored is not answered 202: 507 now, and stored when it is sent again."""
    with small_disk(tmp_path / "disk", "24m") as disk, Service(tmp_path, data=disk, flags=("--dispatch", "paused")) as service:
        runs = [service.submit() for _ in range(40)]
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        uri = "s3://bucket/" + "k" * 4000
        statuses = {run_id: service.complete(run_id, uri).status for run_id in runs}
        assert set(statuses.values()) <= {202, 507}
        assert 507 in statuses.values()
        shown = {run_id: service.run(run_id)["stage"] for run_id in runs}
        assert shown == {run_id: "COMPLETED" if status == 202 else "BUFFERED" for run_id, status in statuses.items()}
        ballast.unlink()
        for run_id in runs:
            assert service.complete(run_id, uri).status == 202
            assert service.run(run_id)["stage"] == "COMPLETED"


@pytest.mark.parametrize("tear", ["garbage", "zeros", "half-a-frame"])
def test_a_torn_tail_of_the_log_costs_nothing_acknowledged(own: Service, tear: str) -> None:
    """After a kill in mid-write, the torn unacknowledged tail of the database's log is ignored and all 202s are there."""
    own.stop()
    own.flags = ("--dispatch", "paused")
    own.start()
    runs = [own.submit(tag="torn") for _ in range(50)]
    own.kill()
    assert own.data is not None
    log = own.data / "nexus.db-wal"
    frame = log.read_bytes()[-2000:]
    with log.open("ab") as file:
        file.write({"garbage": os.urandom(5000), "zeros": bytes(9000), "half-a-frame": frame}[tear])
    own.start()
    assert sorted(row["requestId"] for row in own.json("GET", "/algorithm/v1/results/tags/torn")) == sorted(runs)
    more = own.submit(tag="torn")
    own.kill()
    own.start()
    assert own.run(more)["stage"] == "BUFFERED"


def test_half_written_spools_are_cleaned_at_the_next_start(own: Service) -> None:
    """A service killed while it took in a large body leaves a spool, which the next start removes; no run is made of it."""
    with own.connect() as connection:
        connection.sendall(head(8_000_000) + b'{"algorithmParameters":{"x":"' + b"x" * 2_000_000)
        eventually(lambda: sum(map(size, spools(own))) > 500_000, "a spool")
        own.kill()
    assert spools(own)
    own.start()
    assert not spools(own)
    assert own.json("GET", "/algorithm/latest/runs")["runs"] == []


def test_other_roles_are_refused_with_a_hint(tmp_path: Path) -> None:
    """With SQLite all roles live in one process: another choice ends the start with what to do instead."""
    said = Service(tmp_path, flags=("--roles", "scheduler")).refused()
    assert "--receiver-port" in said
    assert "Traceback" not in said


def test_a_queued_run_keeps_its_revision(own: Service, tmp_path: Path) -> None:
    """A run that waits while its template changes is executed as its template was when it was accepted."""
    own.stop()
    own.flags = ("--dispatch", "paused")
    own.start()
    old = own.submit(["arguments"], ["report"])
    own.stop()
    own.flags = ()
    own.manifests.write_text(own.manifests.read_text().replace('"100%"', '"changed"'))
    own.start()
    new = own.submit(["arguments"], ["report"])
    own.end(new)
    own.end(old)
    assert b'"100%"' in own.output(old)
    assert b'"changed"' in own.output(new)
    assert (own.run(old)["templateRevision"], own.run(new)["templateRevision"]) == (1, 2)


def test_w06_a_recovered_run_has_all_that_its_start_needs(own: Service) -> None:
    """A run that waited when the service was killed is started by the next one in its own cluster, with its limits (weakness 6)."""
    own.stop()
    own.flags = ("--dispatch", "paused")
    own.start()
    overrides = {"workgroupRef": {"name": "fast-machines"}, "computeResources": {"limits": {"cpu": "3", "memory": "700Mi"}}}
    run_id = own.submit(["environment", "NEXUS__SHARD_NAME", "OMP_NUM_THREADS"], ["report"], customConfiguration=overrides)
    own.kill()
    own.flags = ()
    own.start()
    assert own.end(run_id)["stage"] == "COMPLETED"
    seen = json.loads(own.output(run_id).splitlines()[0])
    assert seen == {"NEXUS__SHARD_NAME": "shard-7", "OMP_NUM_THREADS": "3"}


# ── the end of a process ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_completion_answered_survives_a_kill(own: Service) -> None:
    """The moment a report is answered 202 the service is killed; the next start shows the result (weakness 8)."""
    for number in range(3):
        run_id = own.submit(["wait_for", "/nowhere"])
        assert own.complete(run_id, f"s3://bucket/{number}").status == 202
        own.kill()
        own.start()
        run = own.run(run_id)
        assert (run["stage"], run["resultUri"]) == ("COMPLETED", f"s3://bucket/{number}")


def test_sigterm_leaves_algorithms_running_and_the_next_start_adopts_them(own: Service, tmp_path: Path) -> None:
    """SIGTERM ends the service with 0 within its drain time; the algorithm goes on, is adopted, and its report is recorded."""
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    own.stop()
    own.flags = ("--port", str(free_port()))  # the algorithm reports to the address it was given
    own.start()
    run_id = own.submit(["mark", str(marks)], ["wait_for", str(gate)], ["report", "s3://b/adopted"])
    (pid,) = pids(marks)
    own.reach(run_id, "RUNNING")
    assert own.stop() == 0
    assert alive(pid)
    own.start()
    assert own.run(run_id)["stage"] == "RUNNING"
    gate.touch()
    run = own.end(run_id)
    assert (run["stage"], run["resultUri"], run["attempt"]) == ("COMPLETED", "s3://b/adopted", 1)
    assert len(pids(marks)) == 1


def test_an_end_while_the_service_was_away_is_recorded(own: Service, tmp_path: Path) -> None:
    """An algorithm that ended while the service was dead is judged by its exit at the next start; it is not started again."""
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    run_id = own.submit(["mark", str(marks)], ["wait_for", str(gate)], ["leave", 134])
    (pid,) = pids(marks)
    own.reach(run_id, "RUNNING")
    own.kill()
    gate.touch()
    eventually(lambda: not alive(pid), "the algorithm's end")
    own.start()
    run = own.end(run_id)
    assert (run["stage"], run["attempt"]) == ("FAILED", 1)
    assert "134" in run["failureCause"]
    assert len(pids(marks)) == 1


def test_a_machine_that_restarted_loses_no_run(own: Service, tmp_path: Path) -> None:
    """Service, launchers and algorithms killed at once: what ran is FAILED as lost (or retried), what waited is started."""
    marks = tmp_path / "marks"
    steps = [["mark", str(marks)], ["only", 1, ["wait_for", "/nowhere"]], ["report", "s3://b/again"]]
    lost = own.submit(*steps)
    retried = own.submit(*steps, customConfiguration={"runtimeEnvironment": {"maximumRetries": 1}})
    eventually(lambda: len(pids(marks)) == 2, "both at work")
    for run_id in (lost, retried):
        own.reach(run_id, "RUNNING")
    launchers = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids(marks)}
    assert own.process is not None
    for pid in [own.process.pid, *launchers, *pids(marks)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    own.gone()
    eventually(lambda: not any(alive(pid) for pid in launchers), "the launchers to be gone")
    own.start()
    first, second = own.end(lost), own.end(retried)
    assert first["stage"] == "FAILED"
    assert "lost" in first["failureCause"]
    assert (second["stage"], second["attempt"]) == ("COMPLETED", 2)


def test_attempts_the_engine_forgot_are_found(own: Service, tmp_path: Path) -> None:
    """A run said to be RUNNING of which the engine knows nothing (its folder was removed) ends FAILED as lost (weakness 18)."""
    marks = tmp_path / "marks"
    run_id = own.submit(["mark", str(marks)], ["wait_for", "/nowhere"])
    (pid,) = pids(marks)
    own.reach(run_id, "RUNNING")
    own.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), "the algorithm's end")
    assert own.data is not None
    shutil.rmtree(own.data / "engine", ignore_errors=True)
    own.start()
    run = own.end(run_id)
    assert run["stage"] == "FAILED"
    assert "lost" in run["failureCause"]


def test_an_open_request_is_answered_during_the_drain(own: Service) -> None:
    """A POST whose body is under way when SIGTERM comes is taken in and answered; new ones are refused; exit 0 (weakness 30)."""
    body = b'{"algorithmParameters":{},"tag":"drain"}'
    with own.connect() as connection, connection.makefile("rb") as answer:
        connection.sendall(head(len(body), "Expect: 100-continue"))
        assert b" 100 " in answer.readline()  # the handler waits for the body now
        assert answer.readline() == b"\r\n"
        connection.sendall(body[:10])
        assert own.process is not None
        own.process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses(own), "the doors to close for new callers")
        connection.sendall(body[10:])
        assert b" 202 " in answer.readline()
    assert own.gone() == 0
    own.start()
    assert len(own.json("GET", "/algorithm/v1/results/tags/drain")) == 1


def test_a_second_sigterm_ends_it_at_once(own: Service) -> None:
    """Told twice, the service goes at once although a request is open; everything acknowledged is there afterwards."""
    kept = own.submit(["wait_for", "/nowhere"])
    with own.connect() as connection, connection.makefile("rb") as answer:
        connection.sendall(head(100, "Expect: 100-continue"))
        assert b" 100 " in answer.readline()
        assert own.process is not None
        own.process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses(own), "the drain to begin")
        own.process.send_signal(signal.SIGTERM)
        assert own.gone() == 1
    own.start()
    assert own.run(kept)["requestId"] == kept


def test_waiting_readers_do_not_hold_the_end_up(own: Service, tmp_path: Path) -> None:
    """A reader that waits a minute for a result is answered when SIGTERM comes, long before it or the drain is over; exit 0."""
    own.stop()
    own.environ["NEXUS__DRAIN_TIMEOUT"] = "30s"
    own.start()
    run_id = own.submit(["mark", str(tmp_path / "marks")], ["wait_for", "/nowhere"])
    (pid,) = pids(tmp_path / "marks")
    with own.connect() as connection, connection.makefile("rb") as answer:
        path = f"/algorithm/latest/results/agent/requests/{run_id}?wait=60"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        own.json("GET", "/algorithm/latest/queue")  # a later one was answered: this one is being waited for
        assert own.process is not None
        own.process.send_signal(signal.SIGTERM)
        assert b" 200 " in answer.readline()
    assert own.gone() == 0
    assert "drain-timeout" not in own.log.read_text()
    assert alive(pid)  # its end was not what the reader was told


# ── callers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_slow_clients_do_not_block_others(service: Service) -> None:
    """With a hundred clients that never finish their head or body, others are answered as usual."""
    with contextlib.ExitStack() as slow:
        for number in range(100):
            connection = slow.enter_context(service.connect())
            connection.sendall(head(1000)[:30] if number % 2 else head(1000) + b"{")
        for _ in range(20):
            assert service.ask("POST", "/algorithm/v1/run/bare-done?dryRun=true", {"algorithmParameters": {}}).status == 202


def test_a_head_beyond_its_limits_is_refused(service: Service) -> None:
    """A head too large, though it never ends, and one with too many fields are answered 431, and the connection is closed."""
    for extra in (b"X: " + b"x" * 40_000, b"".join(b"X%d: y\r\n" % number for number in range(150)) + b"\r\n"):
        with service.connect() as connection, connection.makefile("rb") as answer:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n" + extra)
            assert b" 431 " in answer.readline()


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
)
def test_a_foreign_page_is_refused(service: Service, headers: dict[str, str]) -> None:
    """A foreign Host, Origin or Sec-Fetch-Site is 403: a page a browser was lured to cannot submit runs."""
    answer = service.ask("POST", "/algorithm/v1/run/bare-done", {"algorithmParameters": {}}, headers)
    assert answer.status == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_post_that_is_not_json_is_refused(service: Service, kind: str) -> None:
    """What a foreign page could send without asking first is 415."""
    answer = service.ask("POST", "/algorithm/v1/run/bare-done", {"algorithmParameters": {}}, {"Content-Type": kind})
    assert answer.status == 415


@pytest.mark.parametrize(
    "parameters",
    [
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":"\xff\xfe"}',
        b"[1]",
        b'{"a":NaN}',
        b'{"a":1',
        b"",
    ],
    ids=["deep-objects", "deep-arrays", "not-utf-8", "array", "nan", "cut-off", "nothing"],
)
def test_parameters_that_are_no_json_object_are_400(service: Service, parameters: bytes) -> None:
    """Deep nesting, bytes that are no UTF-8, arrays, NaN and cut-off JSON are 400 in words; the service goes on."""
    answer = service.ask("POST", "/algorithm/v1/run/bare-done", b'{"algorithmParameters":' + parameters + b"}")
    assert answer.status == 400
    assert "Traceback" not in answer.text
    assert service.ask("GET", "/health/ready").status == 200


def test_a_client_that_goes_away_in_mid_body_leaves_nothing(service: Service) -> None:
    """A client that breaks off, small body or large, leaves neither a run nor a file."""
    before = service.json("GET", "/algorithm/latest/queue")["stages"]
    had = set(spools(service))
    for length in (1000, 8_000_000, "chunked"):
        with service.connect() as connection:
            connection.sendall(head(length))
            if length == 8_000_000:
                connection.sendall(b'{"algorithmParameters":{"x":"' + b"x" * 2_000_000)
                eventually(lambda: set(spools(service)) - had, "a spool")
            else:
                connection.sendall(b"5\r\n{'a':" if length == "chunked" else b'{"a":')
    eventually(lambda: set(spools(service)) <= had, "the spools to be removed")
    assert sum(service.json("GET", "/algorithm/latest/queue")["stages"].values()) == sum(before.values())


def test_a_reader_that_goes_away_harms_nobody(service: Service) -> None:
    """A client that breaks off while it reads a large payload leaves the service as it was."""
    body = b'{"algorithmParameters":{"x":"' + b"x" * 8_000_000 + b'"}}'
    run_id = service.ask("POST", "/algorithm/v1/run/bare-done", body).json["requestId"]
    link = service.ask("GET", f"/algorithm/v1/payload/bare-done/requests/{run_id}").headers["location"]
    path = link.partition(f":{service.port}")[2]
    for _ in range(5):
        with service.connect() as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert service.ask("GET", path).body == b'{"x":"' + b"x" * 8_000_000 + b'"}'


def test_a_partial_range_and_head_of_a_payload(service: Service) -> None:
    """A payload can be read again from where a reader broke off, and asked for its size."""
    run_id = service.ask("POST", "/algorithm/v1/run/bare-done", b'{"algorithmParameters":{"n":12345}}').json["requestId"]
    link = service.ask("GET", f"/algorithm/v1/payload/bare-done/requests/{run_id}").headers["location"]
    path = link.partition(f":{service.port}")[2]
    part = service.ask("GET", path, headers={"Range": "bytes=5-9"})
    assert (part.status, part.body) == (206, b"12345")


def _refuses(service: Service) -> bool:
    """Whether new connections are not answered any more, or answered with 503."""
    try:
        return service.ask("GET", "/health/ready").status == 503
    except (OSError, EOFError):
        return True
    except Exception as error:
        return type(error).__module__ == "http.client"
