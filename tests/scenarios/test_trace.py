"""The order of system calls of a real service: what it was told is on the disk before it says so. SIGKILL cannot show that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.contracts.durable import ended_calls, position
from tests.scenarios.service import Answer, Service, eventually

pytestmark = pytest.mark.faults

CALLS = "trace=write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync,link,linkat"
SAYS = ("write", "writev", "sendto", "sendmsg")
LOG, OBJECTS = "nexus.db-wal>", "/objects/"


class Traced:
    """A service that starts no run, and its system calls in the order in which they ended."""

    def __init__(self, service: Service, file: Path) -> None:
        self.service = service
        self._file = file
        self._marks = 0

    def ask(self, ask: Callable[[], Answer]) -> tuple[Answer, list[tuple[str, str]]]:
        """An answer and the calls from before it was asked for to the one that gave it."""
        self._catch_up()
        before = len(self._calls())
        answer = ask()

        def look() -> list[tuple[str, str]]:
            calls = self._calls()[before:]
            said = [at for at, (name, rest) in enumerate(calls) if name in SAYS and f'"HTTP/1.1 {answer.status}' in rest]
            return calls[: said[0] + 1] if said else []

        return answer, eventually(look, "the answer in the trace")

    def _catch_up(self) -> None:
        """Waits until the trace has all that was answered so far: it has an answer's line only after the caller has the answer."""
        self._marks += 1
        self.service.ask("GET", "/nothing")

        def told() -> bool:
            return sum(name in SAYS and '"HTTP/1.1 404' in rest for name, rest in self._calls()) >= self._marks

        eventually(told, "the trace to catch up")

    def _calls(self) -> list[tuple[str, str]]:
        return ended_calls(self._file.read_text(errors="replace"))


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """One service under strace; skips where there is none, or it may not trace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("showing that the sync came before the answer needs strace")
    folder = tmp_path_factory.mktemp("trace")
    tracer = (strace, "-D", "-f", "-y", "-s", "4200", "-e", CALLS, "-o", str(folder / "calls"))
    if subprocess.run([*tracer, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here (ptrace is refused)")
    with Service(folder, flags=("--dispatch", "paused"), tracer=tracer) as service:
        yield Traced(service, folder / "calls")


def assert_synced(calls: list[tuple[str, str]], text: str) -> None:
    """A page with that text was written to the log of the database, the log was synced, and then the answer was given."""
    written = position(calls, ("pwrite64", "write"), LOG, text)
    synced = position(calls, ("fdatasync", "fsync"), LOG, "= 0", last_before=len(calls))
    assert written < synced < len(calls) - 1


def test_a_run_is_synced_before_its_202(traced: Traced) -> None:
    """A small run, payload in the row: log written, log synced, 202; and again under an idempotency key."""
    for headers in ({}, {"Idempotency-Key": "traced"}):
        body = {"algorithmParameters": {"n": 1}, "tag": f"small-{len(headers)}"}
        answer, calls = traced.ask(partial(traced.service.ask, "POST", "/algorithm/v1/run/bare-done", body, headers))
        assert answer.status == 202
        assert_synced(calls, body["tag"])


def test_a_large_payload_is_synced_before_its_row(traced: Traced) -> None:
    """A large payload: its file synced, its name given and synced with its folder, then the row, then the 202."""
    body = {"algorithmParameters": {"x": "y" * 2_000_000}, "tag": "large"}
    answer, calls = traced.ask(partial(traced.service.ask, "POST", "/algorithm/v1/run/bare-done", body))
    assert answer.status == 202
    assert_synced(calls, "large")
    content = position(calls, ("fsync", "fdatasync"), f"{OBJECTS}.spool/", "= 0")
    named = position(calls, ("link", "linkat"), answer.json["requestId"], "= 0")
    folder = position(calls, ("fsync", "fdatasync"), f"{OBJECTS}payloads>", "= 0")
    row = position(calls, ("pwrite64", "write"), LOG, answer.json["requestId"])
    assert content < named < folder < row


def test_reports_and_cancels_are_synced_before_their_answers(traced: Traced) -> None:
    """A report, a late report, a cancel and a new tag are on the disk before they are answered."""
    service = traced.service
    run, other = (service.submit(algorithm="bare-done") for _ in range(2))
    tag = f"/algorithm/v1/metadata/tags/bare-done/requests/{other}"
    for text, ask in {
        "s3://b/first": partial(service.complete, run, "s3://b/first", algorithm="bare-done"),
        "s3://b/late": partial(service.complete, run, "s3://b/late", algorithm="bare-done"),
        "Cancelled by": partial(service.cancel, other, "bare-done"),
        "new-tag": partial(service.ask, "POST", tag, {"newTag": "new-tag"}),
    }.items():
        answer, calls = traced.ask(ask)
        assert answer.status in (200, 202)
        assert_synced(calls, text)
