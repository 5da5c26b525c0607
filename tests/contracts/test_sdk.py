"""The SDK against a service that answers, fails and lies: what the client promises its users."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from nexus.kernel.errors import (
    Busy,
    Conflict,
    InvalidInput,
    NexusError,
    NotFound,
    RunNotFound,
    ServiceError,
    Unauthenticated,
    UnknownAlgorithm,
    WaitTimeout,
)
from nexus.sdk import Nexus, NexusClient, RunRef, files
from nexus.sdk.answers import RefusedManifests
from tests.contracts.fake_service import FakeService


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    async with FakeService().serving() as fake:
        yield fake


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[NexusClient]:
    async with NexusClient(service.url, "nx_secret", retry_for=60) as nexus:
        yield nexus


async def test_a_lost_answer_does_not_double_the_run(service: FakeService, client: NexusClient) -> None:
    """A submit whose answers are cut off after the service accepted makes one run, under one key."""
    service.faults.extend(["cut-after", "cut-after", 503, "cut"])
    run = await client.submit("solve", {"n": 1})
    assert list(service.runs) == [run.id]
    keys = {headers["Idempotency-Key"] for headers in service.headers}
    assert len(service.headers) == 5
    assert len(keys) == 1


async def test_two_submits_are_two_runs(service: FakeService, client: NexusClient) -> None:
    """Keys differ from call to call, unless the caller gives one."""
    first, second = await client.submit("solve", {}), await client.submit("solve", {})
    third, again = [await client.submit("solve", {}, idempotency_key="mine") for _ in range(2)]
    assert len({first, second, third}) == 3
    assert again == third


async def test_a_body_from_a_file_is_sent_whole_again(service: FakeService, client: NexusClient, tmp_path: Path) -> None:
    """A streamed payload keeps its bytes, also when the first try was cut off."""
    text = '{"big": 123456789012345678901234567890, "one": 1.0,  "pad": "%s"}' % ("x" * 1_000_000)
    (tmp_path / "payload.json").write_text(text)
    service.faults.extend(["cut-after", 502])
    await client.submit("solve", tmp_path / "payload.json", tag="t")
    assert len(service.runs) == 1
    assert service.bodies[-1].startswith(b'{"algorithmParameters":' + text.encode())


async def test_the_envelope_carries_what_was_given(service: FakeService, client: NexusClient) -> None:
    """Tag, parent, overrides, validity and dryRun reach the service; what was not given is left out."""

    @dataclass
    class Problem:
        n: int

    run = await client.submit(
        "solve",
        Problem(3),
        tag="t",
        parent="root/00000000-0000-7000-8000-00000000000f",
        configuration={"runtimeEnvironment": {"deadlineSeconds": 5}},
        dry_run=True,
        valid_for=timedelta(hours=1),
    )
    stored = service.runs[run.id]
    assert stored["query"] == {"dryRun": "true"}
    assert stored["envelope"] == {
        "algorithmParameters": {"n": 3},
        "tag": "t",
        "parentRequest": {"algorithmName": "root", "requestId": "00000000-0000-7000-8000-00000000000f"},
        "customConfiguration": {"runtimeEnvironment": {"deadlineSeconds": 5}},
        "payloadValidFor": "3600s",
    }
    plain = await client.submit("solve", b"{}")
    assert service.runs[plain.id]["envelope"] == {"algorithmParameters": {}}


async def test_names_are_escaped(service: FakeService, client: NexusClient) -> None:
    """A name with a slash or a space is one segment of the path; one that would change the path is refused."""
    await client.submit("a b/c", {})
    assert service.requests[0][1] == "/algorithm/latest/run/a%20b%2Fc?dryRun=false"
    with pytest.raises(InvalidInput):
        await client.submit("..", {})


async def test_many_are_submitted_in_order(service: FakeService, client: NexusClient) -> None:
    """submit_many returns one run for each payload, in the order of the payloads."""
    runs = await client.submit_many("solve", ({"n": n} for n in range(50)), concurrency=8)
    assert [service.runs[run.id]["envelope"]["algorithmParameters"]["n"] for run in runs] == list(range(50))


async def test_a_batch_that_broke_off_is_completed_by_repeating_it(service: FakeService, client: NexusClient) -> None:
    """The first refusal comes through as itself; the same call under its key submits only what is missing."""
    payloads = [{"n": n} for n in range(6)]
    service.faults.extend([None, None, web.Response(status=400, text="no")])
    with pytest.raises(InvalidInput, match="no"):
        await client.submit_many("solve", payloads, concurrency=1, idempotency_key="batch")
    assert len(service.runs) < 6
    runs = await client.submit_many("solve", payloads, concurrency=1, idempotency_key="batch")
    assert sorted(service.runs) == sorted(run.id for run in runs)
    assert len(service.runs) == 6


async def test_retry_after_is_kept(service: FakeService, client: NexusClient) -> None:
    """A service that asks for a pause is not asked again before it."""
    service.faults.append(web.Response(status=429, text="full", headers={"retry-after": "0.4"}))
    began = asyncio.get_running_loop().time()
    await client.submit("solve", {})
    assert asyncio.get_running_loop().time() - began >= 0.4


async def test_a_pause_longer_than_the_time_left_ends_the_tries(service: FakeService) -> None:
    """429 with a Retry-After beyond the bound is Busy at once, with the seconds asked for."""
    service.faults.append(web.Response(status=429, text="full", headers={"Retry-After": "60"}))
    async with NexusClient(service.url, retry_for=1) as nexus:
        with pytest.raises(Busy) as caught:
            await nexus.submit("solve", {})
    assert caught.value.retry_after_s == 60
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "code", "message"),
    [
        ((400, '{"error": {"code": "NX203", "message": "no `x`", "hint": "apply it"}}'), UnknownAlgorithm, "NX203", "no `x`"),
        ((400, '{"error": {"code": "NX299", "message": "new"}}'), InvalidInput, "NX299", "new"),
        ((400, "No valid configuration found for: x"), InvalidInput, "NX100", "No valid configuration found for: x"),
        ((401, "no token"), Unauthenticated, "NX110", "no token"),
        ((404, ""), NotFound, "NX130", "the service answered 404"),
        ((418, "<html>"), InvalidInput, "NX100", "the service answered 418"),
        ((500, "oops"), ServiceError, "NX305", "oops"),
    ],
)
async def test_answers_become_errors_of_the_tree(
    service: FakeService, client: NexusClient, answer: tuple[int, str], kind: type[NexusError], code: str, message: str
) -> None:
    """JSON and plain text answers keep code and words; none of these is asked twice."""
    service.faults.append(web.Response(status=answer[0], text=answer[1]))
    with pytest.raises(NexusError) as caught:
        await client.submit("solve", {})
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.message == message
    assert len(service.requests) == 1


async def test_a_success_that_cannot_be_read_is_a_service_error(service: FakeService, client: NexusClient) -> None:
    """A 202 without a request id (a proxy's page, say) is no run."""
    service.faults.append(web.Response(status=202, text="<html>hello</html>"))
    with pytest.raises(ServiceError):
        await client.submit("solve", {})


async def test_wait_tells_each_stage_and_the_end(service: FakeService, client: NexusClient) -> None:
    """on_change hears of every stage seen, once; wait returns the end whatever it is."""
    run = await client.submit("solve", {})
    service.runs[run.id].update(steps=["BUFFERED", "BUFFERED", "RUNNING", "FAILED"], cause="ValueError: no")
    seen: list[str] = []
    result = await client.wait(run, 120, on_change=lambda change: seen.append(change.stage))
    assert seen == ["BUFFERED", "RUNNING", "FAILED"]
    assert (result.ok, result.message) == (False, "ValueError: no")


async def test_wait_goes_on_through_a_restart_of_the_service(service: FakeService, client: NexusClient) -> None:
    """Cut connections and 503 while waiting are not the end of the wait."""
    run = await client.submit("solve", {})
    service.finish(run.id)
    service.faults.extend(["cut", 503, "cut"])
    assert (await client.wait(run)).ok


async def test_wait_stops_after_its_time(client: NexusClient) -> None:
    """A run that does not end in time is WaitTimeout, and goes on."""
    run = await client.submit("solve", {})
    with pytest.raises(WaitTimeout):
        await client.wait(run, 0.2)
    assert (await client.result(run)).stage == "BUFFERED"


async def test_result_values_are_typed(service: FakeService, client: NexusClient) -> None:
    """The result comes from its signed URL, without the token, as plain values, bytes or the type asked for."""

    @dataclass
    class Solution:
        x: list[int]

    run = await client.submit("solve", {})
    service.finish(run.id, b'{"x": [1, 2]}')
    assert await client.result_value(run) == {"x": [1, 2]}
    assert await client.result_value(run, Solution) == Solution([1, 2])
    assert await client.result_value(run, bytes) == b'{"x": [1, 2]}'
    signed = [headers for (_, path), headers in zip(service.requests, service.headers, strict=True) if path.startswith("/signed")]
    assert len(signed) == 3
    assert all("Authorization" not in headers for headers in signed)
    service.results[run.id] = b'{"x": [1, "two"]}'
    with pytest.raises(InvalidInput, match=r"Expected `int`, got `str` - at `\$.x\[1\]`"):
        await client.result_value(run, Solution)


async def test_a_run_without_result_says_why(service: FakeService, client: NexusClient) -> None:
    """Failed, result-less and foreign results are told apart."""
    failed, empty, foreign = [await client.submit("solve", {}) for _ in range(3)]
    service.finish(failed.id, stage="FAILED", cause="boom")
    service.finish(empty.id)
    service.finish(foreign.id)
    service.runs[foreign.id]["uri"] = "s3a://bucket/result"
    with pytest.raises(Conflict, match="boom"):
        await client.result_value(failed)
    with pytest.raises(NotFound, match="without a result"):
        await client.result_value(empty)
    with pytest.raises(NotFound, match="s3a://bucket/result"):
        await client.result_value(foreign)


async def test_a_download_is_whole_or_not_there(service: FakeService, client: NexusClient, tmp_path: Path) -> None:
    """A stored result equals what the algorithm wrote; a refused one leaves no file behind."""
    run = await client.submit("solve", {})
    with pytest.raises(Conflict):
        await client.download(run, tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []
    service.finish(run.id, bytes(range(256)) * 5000)
    assert await client.download(run, tmp_path / "out.png") == 1_280_000
    assert (tmp_path / "out.png").read_bytes() == service.results[run.id]
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


async def test_a_download_overwrites_only_when_told(
    service: FakeService, client: NexusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that exists, or comes while the result is on its way, stays; where files cannot have two names as well."""
    run = await client.submit("solve", {})
    service.finish(run.id, b"new")
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(Conflict, match="exists"):
        await client.download(run, target, overwrite=False)
    assert target.read_bytes() == b"old"
    assert await client.download(run, target) == 3
    assert target.read_bytes() == b"new"

    async def meanwhile() -> AsyncIterator[bytes]:
        yield b"mine"
        target.write_bytes(b"theirs")

    for links in (os.link, _no_links):
        monkeypatch.setattr(os, "link", links)
        target.unlink()
        with pytest.raises(Conflict, match="exists"):
            await files.store(meanwhile(), target, overwrite=False)
        assert target.read_bytes() == b"theirs"
        assert await files.store(_pieces(b"x", b"y"), tmp_path / f"fresh-{links.__name__}", overwrite=False) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh-_no_links", "fresh-link", "out"]


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_download_goes_into_what_is_no_file(tmp_path: Path) -> None:
    """A pipe is written into, not replaced; a folder is refused by its name."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    assert await files.store(_pieces(b"through"), pipe, overwrite=False) == 7
    assert await reading == b"through"
    assert pipe.is_fifo()
    with pytest.raises(InvalidInput, match="cannot be written"):
        await files.store(_pieces(b"x"), tmp_path, overwrite=True)


async def test_listings_follow_the_cursor(service: FakeService, client: NexusClient) -> None:
    """runs() gives every run once over many pages, and stops at its limit."""
    await client.submit_many("solve", [{}] * 230)
    everything = [run.request_id async for run in client.runs()]
    assert everything == sorted(service.runs, reverse=True)
    assert [run.request_id async for run in client.runs(limit=120)] == everything[:120]
    assert len(await client.tree(RunRef("solve", everything[0]))) == 100


async def test_unknown_runs_are_not_found(client: NexusClient) -> None:
    """Reading what does not exist keeps the service's code and hint."""
    with pytest.raises(RunNotFound) as caught:
        await client.run("solve/nothing")
    assert caught.value.hint == "look at the list"
    with pytest.raises(InvalidInput):
        await client.run("no-slash")


async def test_cancel_and_metadata(service: FakeService, client: NexusClient) -> None:
    """Cancel names who and why; metadata is the wire's."""
    run = await client.submit("solve", {})
    await client.cancel(run, reason="enough", policy="Orphan", initiator="me")
    assert json.loads(service.bodies[-1]) == {"initiator": "me", "reason": "enough", "cancellationPolicy": "Orphan"}
    assert (await client.metadata(run)).lifecycle_stage == "CANCELLED"
    service.faults.append(web.Response(text="some are left"))
    assert await client.cancel(run, policy="Foreground", wait=2.5) == "some are left"
    assert service.requests[-1][1].endswith("?wait=2.500")
    assert await client.cancel(run) == ""


async def test_runs_are_found_by_their_tag(client: NexusClient) -> None:
    """Whatever a tag holds, it is one segment of the path."""
    run = await client.submit("solve", {}, tag="a/b ü?")
    await client.submit("solve", {}, tag="other")
    assert [(result.ref, result.stage) for result in await client.tagged("a/b ü?")] == [(run, "BUFFERED")]


async def test_logs_are_followed_over_attempts_to_the_end(service: FakeService, client: NexusClient) -> None:
    """Following shows all bytes of each attempt, in order, and ends with the run."""
    run = await client.submit("solve", {})
    service.runs[run.id].update(stage="RUNNING", attempt=1)
    service.log[1] = b"first attempt\n"
    seen = b""
    async for piece in client.logs(run, follow=True):
        seen += piece
        if seen == b"first attempt\n":
            service.runs[run.id]["attempt"] = 2
            service.log[2] = b"second\n"
        if seen.endswith(b"second\n"):
            service.log[2] = b"second\nlast words"
            service.finish(run.id)
    assert seen == b"first attempt\nsecond\nlast words"
    assert b"".join([piece async for piece in client.logs(run, attempt=1)]) == b"first attempt\n"


async def test_following_loses_neither_last_words_nor_a_quick_attempt(service: FakeService, client: NexusClient) -> None:
    """A run that ends, and its next attempt with it, between two looks is shown whole, as is what comes after the report."""
    run = await client.submit("solve", {})
    service.runs[run.id].update(stage="RUNNING", attempt=1)
    service.log[1] = b"one\n"
    pieces = client.logs(run, follow=True)
    assert await anext(pieces) == b"one\n"
    service.runs[run.id].update(attempt=2, alive=True)
    service.log[2] = b"two\n"
    service.finish(run.id)  # reported; its process goes on
    assert await anext(pieces) == b"two\n"
    service.log[2] += b"end"
    service.runs[run.id]["alive"] = False
    assert [piece async for piece in pieces] == [b"end"]


async def test_the_last_lines_of_a_log_come_first(service: FakeService, client: NexusClient) -> None:
    """With `tail` only the last lines that are there now are shown, and following goes on from them, byte for byte."""
    run = await client.submit("solve", {})
    service.runs[run.id].update(stage="RUNNING", attempt=1)
    service.log[1] = b"one\r\ntwo\nthree\nunfini"
    assert b"".join([piece async for piece in client.logs(run, tail=2)]) == b"three\nunfini"
    assert b"".join([piece async for piece in client.logs(run, tail=0)]) == b""
    assert b"".join([piece async for piece in client.logs(run, tail=99)]) == service.log[1]
    pieces = client.logs(run, tail=1, follow=True)
    assert await anext(pieces) == b"unfini"
    service.log[1] += b"shed\nmore\n"
    service.finish(run.id)
    assert b"".join([piece async for piece in pieces]) == b"shed\nmore\n"


async def test_apply_sends_files_with_their_folders(service: FakeService, client: NexusClient, tmp_path: Path) -> None:
    """A folder's manifests are read in the order of names; hidden files and other YAML stay out; relative paths stay resolvable."""
    group = "apiVersion: science.sneaksanddata.com/v1\n"
    (tmp_path / "b.yaml").write_text(f"{group}kind: B")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yml").write_text(f"{group}kind: A")
    (tmp_path / ".hidden.yaml").write_text("no")
    (tmp_path / "notes.txt").write_text("no")
    (tmp_path / "payload.json").write_text("{}")
    (tmp_path / "typo.json").write_text('{"apiVersion": "science.sneaks.com/v1", "kind": "NexusAlgorithmTemplate"}')
    applied = await client.apply([tmp_path], prune=True)
    query, body = service.applied[0]
    assert query == {"prune": "true"}
    assert [(manifest["text"], manifest["base"]) for manifest in body["manifests"]] == [
        (f"{group}kind: B", str(tmp_path)),
        (f"{group}kind: A", str(tmp_path / "sub")),
        ((tmp_path / "typo.json").read_text(), str(tmp_path)),  # a manifest by its kind: the service says what is wrong
    ]
    assert applied.applied[0].change == "created"
    assert [warning.text() for warning in applied.warnings] == ["b.yaml: warning[NX-T09]: careful"]


async def test_refused_manifests_keep_their_findings(service: FakeService, client: NexusClient, tmp_path: Path) -> None:
    """All findings come back with file and line, and are part of the error's text."""
    (tmp_path / "a.yaml").write_text("kind: x")
    finding = {
        "file": "a.yaml",
        "line": 3,
        "column": 7,
        "code": "NX-T01",
        "message": "no name",
        "hint": "give one",
        "severity": "error",
    }
    body = {"error": {"code": "NX210", "message": "nothing was applied", "findings": [finding]}}
    service.faults.append(web.json_response(body, status=400))
    with pytest.raises(RefusedManifests) as caught:
        await client.apply([tmp_path / "a.yaml"])
    assert "a.yaml:3:7: error[NX-T01]: no name\n  hint: give one" in caught.value.text()
    assert caught.value.text().endswith("error[NX210]: nothing was applied")


async def test_the_sync_face_works_beside_a_running_loop(service: FakeService) -> None:
    """From any thread, also one whose event loop runs: submit, wait with a callback, list, follow, fail."""

    def script() -> None:
        with Nexus(service.url) as nexus:
            runs = nexus.submit_many("solve", [{"n": n} for n in range(5)])
            service.finish(runs[0].id, b"[1]")
            service.log[1] = b"hello"
            seen: list[str] = []
            assert nexus.wait(runs[0], on_change=lambda change: seen.append(change.stage)).ok
            assert seen == ["COMPLETED"]
            assert nexus.result_value(runs[0]) == [1]
            assert len(list(nexus.runs())) == 5
            assert next(iter(nexus.runs())).ref == runs[-1]
            assert b"".join(nexus.logs(runs[0], follow=True)) == b"hello"
            with pytest.raises(RunNotFound):
                nexus.run("solve/none")
        with pytest.raises(RuntimeError, match="closed"):
            nexus.queue()
        nexus.close()

    await asyncio.to_thread(script)
