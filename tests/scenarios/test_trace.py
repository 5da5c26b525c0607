"""The order of system calls of a real service: what it was told is on the disk before it says so. SIGKILL cannot show that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
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
        self._seen = 0

    def calls(self, answer: Answer) -> list[tuple[str, str]]:
        """The calls between the answer before and this one, with it."""

        def look() -> list[tuple[str, str]]:
            calls = ended_calls(self._file.read_text(errors="replace"))
            said = [at for at, (name, rest) in enumerate(calls) if name in SAYS and f'"HTTP/1.1 {answer.status}' in rest]
            return calls[self._seen : said[-1] + 1] if said and said[-1] >= self._seen else []

        found: list[tuple[str, str]] = eventually(look, "the answer in the trace")
        self._seen += len(found)
        return found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """One service under strace; skips where there is none, or it may not trace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("showing that the sync came before the answer needs strace")
    folder = tmp_path_factory.mktemp("trace")
    tracer = (strace, "-D", "-f", "-y", "-s", "64", "-e", CALLS, "-o", str(folder / "calls"))
    if subprocess.run([*tracer, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here (ptrace is refused)")
    with Service(folder, flags=("--dispatch", "paused"), tracer=tracer) as service:
        yield Traced(service, folder / "calls")


def assert_synced(calls: list[tuple[str, str]]) -> None:
    """The log of the database was written, then synced, and then the answer was."""
    first = position(calls, ("pwrite64", "write"), LOG)
    synced = position(calls, ("fdatasync", "fsync"), LOG, "= 0", last_before=len(calls))
    last = position(calls, ("pwrite64", "write"), LOG, last_before=len(calls))
    assert first <= last < synced < len(calls) - 1


def test_a_run_is_synced_before_its_202(traced: Traced) -> None:
    """A small run, payload in the row: log written, log synced, 202; and again under an idempotency key."""
    for headers in ({}, {"Idempotency-Key": "traced"}):
        answer = traced.service.ask("POST", "/algorithm/v1/run/bare-done", {"algorithmParameters": {"n": 1}}, headers)
        assert answer.status == 202
        assert_synced(traced.calls(answer))


def test_a_large_payload_is_synced_before_its_row(traced: Traced) -> None:
    """A large payload: its file synced, its name given and synced with its folder, then the row, then the 202."""
    answer = traced.service.ask("POST", "/algorithm/v1/run/bare-done", {"algorithmParameters": {"x": "y" * 2_000_000}})
    assert answer.status == 202
    calls = traced.calls(answer)
    assert_synced(calls)
    content = position(calls, ("fsync", "fdatasync"), f"{OBJECTS}.spool/", "= 0")
    named = position(calls, ("link", "linkat"), answer.json["requestId"], "= 0")
    folder = position(calls, ("fsync", "fdatasync"), f"{OBJECTS}payloads>", "= 0")
    row = position(calls, ("pwrite64", "write"), LOG)
    assert content < named < folder < row


def test_reports_and_cancels_are_synced_before_their_answers(traced: Traced) -> None:
    """A report, a late report, a cancel and a new tag are on the disk before they are answered."""
    service = traced.service
    first, second = (service.ask("POST", "/algorithm/v1/run/bare-done", {"algorithmParameters": {}}) for _ in range(2))
    traced.calls(second)
    run, other = first.json["requestId"], second.json["requestId"]
    tag = f"/algorithm/v1/metadata/tags/bare-done/requests/{other}"
    for ask in (
        lambda: service.complete(run, "s3://b/traced", algorithm="bare-done"),
        lambda: service.complete(run, "s3://b/late", algorithm="bare-done"),
        lambda: service.cancel(other, "bare-done"),
        lambda: service.ask("POST", tag, {"newTag": "traced"}),
    ):
        answer = ask()
        assert answer.status in (200, 202)
        assert_synced(traced.calls(answer))
