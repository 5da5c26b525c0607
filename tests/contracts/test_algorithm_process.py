"""An algorithm's process, started as the service starts it, against a service that answers and fails."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.contracts.fake_service import FakeService

RUN = "00000000-0000-7000-8000-0000000000aa"
SOURCE = """
import os, pathlib, sys, time
from dataclasses import dataclass
from nexus.sdk import Context, FatalError, Result, TransientError, algorithm

@dataclass
class Problem:
    kind: str
    n: int = 0

@algorithm(transient=(ConnectionResetError,))
def solve(problem: Problem, ctx: Context):
    match problem.kind:
        case "square":
            ctx.log.info("squaring %s", problem.n)
            return {"square": problem.n ** 2, "attempt": ctx.attempt, "parent": str(ctx.parent), "run": ctx.run_id}
        case "raise":
            raise ValueError("no solution")
        case "surrogate":
            raise ValueError(os.fsdecode(b"caf\\xe9") + " is no instance")
        case "mute" | "fatally-mute":
            class Mute(Exception):
                def __str__(self):
                    raise KeyError("text")
            if problem.kind == "mute":
                raise Mute
            raise FatalError("no instance") from Mute()
        case "fatal":
            raise FatalError("the instance is infeasible")
        case "transient":
            raise TransientError("the licence server is busy")
        case "reset":
            raise ConnectionResetError("again")
        case "nan":
            return {"x": float("nan")}
        case "none":
            return None
        case "picture":
            path = pathlib.Path(os.environ["TMPDIR"]) / "plot.png"
            path.write_bytes(b"\\x89PNG")
            return path
        case "tree":
            children = [ctx.spawn("child", {"n": n}, tag="t") for n in range(3)]
            return {"sum": sum(ctx.gather(children, int)), "extra": ctx.spawn("child", {}, key="extra").result()}
        case "wait":
            print("waiting", flush=True)
            try:
                ctx.spawn("slow", {}).result()
            finally:
                print("cleaned up", flush=True)

if __name__ == "__main__":
    solve.main()
"""


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    async with FakeService().serving() as fake:
        yield fake


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "main.py"
    path.write_text(SOURCE)
    return path


async def _start(service: FakeService, script: Path, payload: object, **extra: str) -> asyncio.subprocess.Process:
    service.payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    environment = {
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(script.parent),
        "NEXUS__ALGORITHM_NAME": "solve",
        "NEXUS__CLIENT__RECEIVER": service.url,
        "NEXUS__CLIENT__SCHEDULER": service.url + "/",
        "NEXUS__RUN_ID": RUN,
        "NEXUS__RUN_TOKEN": "nx_run",
        "NEXUS__RESULT_UPLOAD_URL": f"{service.url}/signed/upload/{RUN}?sig=x",
        "NEXUS__ATTEMPT": "2",
        **extra,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, str(script), f"--sas-uri={service.url}/signed/payload?sig=x", "--request-id", RUN,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _run(service: FakeService, script: Path, payload: object, **extra: str) -> tuple[int, str]:
    process = await _start(service, script, payload, **extra)
    _, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stderr.decode()


async def test_a_result_is_uploaded_and_reported(service: FakeService, script: Path) -> None:
    """Payload in, JSON result up, completion reported with the run's token; logging goes to stderr; exit 0."""
    code, stderr = await _run(
        service, script, {"kind": "square", "n": 12}, NEXUS__PARENT_ALGORITHM_NAME="root", NEXUS__PARENT_REQUEST_ID="r-1"
    )
    assert (code, "squaring 12" in stderr) == (0, True)
    kind, body = service.uploads[RUN]
    assert kind == "application/json"
    assert json.loads(body) == {"square": 144, "attempt": 2, "parent": "root/r-1", "run": RUN}
    assert service.reports == [{"resultUri": f"{service.url}/signed/result/{RUN}", "errorCause": "", "errorDetails": ""}]
    tokens = {
        path.partition("?")[0]: headers.get("Authorization")
        for (_, path), headers in zip(service.requests, service.headers, strict=True)
    }
    assert tokens[f"/algorithm/v1/complete/solve/requests/{RUN}"] == "Bearer nx_run"
    assert tokens["/signed/payload"] is None
    assert tokens[f"/signed/upload/{RUN}"] is None


@pytest.mark.parametrize(
    ("payload", "cause", "details"),
    [
        ({"kind": "raise"}, "ValueError: no solution", "Traceback"),
        ({"kind": "fatal"}, "the instance is infeasible", ""),
        ({"kind": "surrogate"}, r"ValueError: caf\udce9 is no instance", "Traceback"),
        ({"kind": "mute"}, "Mute", "Traceback"),
        ({"kind": "fatally-mute"}, "no instance", ""),
        ({"kind": "nan"}, "InvalidInput: the result cannot be written as JSON", "JSON has no NaN"),
        ({"kind": "square", "n": "x"}, "does not fit `Problem`: Expected `int`, got `str` - at `$.n`", ""),
        ({"n": 1}, "missing required field `kind`", ""),
        (b"{not json", "the payload is not JSON", ""),
    ],
)
async def test_failures_are_reported_with_their_cause(
    service: FakeService, script: Path, payload: object, cause: str, details: str
) -> None:
    """What an algorithm raises, and payloads that do not fit, are FAILED with a cause a person understands; exit 0."""
    code, _ = await _run(service, script, payload)
    assert code == 0
    assert cause in service.reports[0]["errorCause"]
    assert details in service.reports[0]["errorDetails"]
    assert len(service.reports) == 1
    assert service.uploads == {}


@pytest.mark.parametrize("kind", ["transient", "reset"])
async def test_transient_errors_report_nothing(service: FakeService, script: Path, kind: str) -> None:
    """TransientError, and the types the author named, leave the decision to the service: exit 1, no report."""
    code, stderr = await _run(service, script, {"kind": kind})
    assert (code, service.reports) == (1, [])
    assert "to be tried again" in stderr


async def test_no_result_is_a_completion_too(service: FakeService, script: Path) -> None:
    """None stores nothing and completes."""
    assert (await _run(service, script, {"kind": "none"}))[0] == 0
    assert service.reports == [{"resultUri": "", "errorCause": "", "errorDetails": ""}]


async def test_a_file_is_a_result(service: FakeService, script: Path) -> None:
    """A path is uploaded as it is, with its content type."""
    assert (await _run(service, script, {"kind": "picture"}))[0] == 0
    assert service.uploads[RUN] == ("image/png", b"\x89PNG")


async def test_faults_on_the_way_are_survived(service: FakeService, script: Path) -> None:
    """5xx and cut connections at payload, upload, report and check do not lose the result."""
    service.faults.extend([500, "cut", None, 503, "cut-after", None, "cut", 500, None, 502])
    assert (await _run(service, script, {"kind": "square", "n": 2}))[0] == 0
    assert json.loads(service.uploads[RUN][1])["square"] == 4


async def test_a_refused_payload_is_reported(service: FakeService, script: Path) -> None:
    """An expired URL is the run's failure, not a reason to try again."""
    service.faults.append(web.Response(status=403, text="the URL has expired"))
    assert (await _run(service, script, {"kind": "none"}))[0] == 0
    assert service.reports[0]["errorCause"] == "Forbidden: the payload could not be fetched: the URL has expired"


async def test_another_attempt_finds_its_children_again(service: FakeService, script: Path) -> None:
    """Children name their parent; a second attempt spawns none anew, whether matched by order or by key."""
    service.children["child"] = 7
    assert (await _run(service, script, {"kind": "tree"}))[0] == 0
    assert json.loads(service.uploads[RUN][1]) == {"sum": 21, "extra": 7}
    assert len(service.runs) == 4
    assert all(run["envelope"]["parentRequest"] == {"algorithmName": "solve", "requestId": RUN} for run in service.runs.values())
    assert (await _run(service, script, {"kind": "tree"}, NEXUS__ATTEMPT="3"))[0] == 0
    assert len(service.runs) == 4


async def test_a_failed_child_fails_its_parent_by_name(service: FakeService, script: Path) -> None:
    """The cause names the child, its stage and its own cause."""
    process = await _start(service, script, {"kind": "wait"})
    assert process.stdout is not None
    assert await process.stdout.readline() == b"waiting\n"
    while not service.runs:
        await asyncio.sleep(0.01)
    [child] = service.runs
    service.finish(child, stage="DEADLINE_EXCEEDED", cause="too slow")
    await process.communicate()
    assert process.returncode == 0
    assert service.reports[0]["errorCause"] == f"ChildFailed: child slow/{child} ended DEADLINE_EXCEEDED: too slow"


async def test_sigterm_ends_a_wait_cleanly(service: FakeService, script: Path) -> None:
    """A cancelled parent that waits for a child runs its cleanup, reports nothing and exits with 143."""
    process = await _start(service, script, {"kind": "wait"})
    assert process.stdout is not None
    assert await process.stdout.readline() == b"waiting\n"
    while not service.runs:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = await process.communicate()
    assert (process.returncode, stdout, service.reports) == (143, b"cleaned up\n", [])
    assert b"Traceback" not in stderr


async def test_a_wrong_start_says_what_is_missing(script: Path) -> None:
    """Started by hand, the process names the arguments or variables it lacks, and exits with 2."""
    for arguments, word in (([], "--sas-uri"), (["--sas-uri=http://x", f"--request-id={RUN}"], "NEXUS__ALGORITHM_NAME")):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), *arguments, env={}, stderr=asyncio.subprocess.PIPE
        )
        _, stderr = await process.communicate()
        assert process.returncode == 2
        assert word in stderr.decode()
        assert "Traceback" not in stderr.decode()
