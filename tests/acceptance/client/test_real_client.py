"""The real ``nexus-client-sdk`` 1.8.5, client side and algorithm side, unchanged, against ``nexus serve``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
VERSION = "1.8.5"
UNKNOWN = "01a1fe58-842d-7001-a1d7-411db6405cc0"

MANIFEST = """\
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata:
  name: hello
  annotations: {{local.nexus/working-directory: "{folder}"}}
spec:
  container: {{image: hello, registry: registry.example.org/team, versionTag: v1}}
  command: "{python}"
  args: [main.py, "--sas-uri=%s", "--request-id=%s"]
  computeResources: {{cpuLimit: "1", memoryLimit: 4Gi}}
  workgroupRef: {{group: science.sneaksanddata.com, kind: NexusAlgorithmWorkgroup, name: default}}
  runtimeEnvironment:
    deadlineSeconds: 120
    environmentVariables:
      - {{name: NEXUS__TELEMETRY__OUTPUT_PATH, value: "file://{telemetry}"}}
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: sleeper}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: sleep 60
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of an environment that has the client: built once in the checkout, by ``uv``."""
    folder = ROOT / ".client"
    interpreter = folder / "bin/python"
    uv = str(Path(sys.executable).with_name("uv"))
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", str(folder)], check=True, env=environment)
        install = [uv, "pip", "install", "--quiet", "--python", str(interpreter), f"nexus-client-sdk=={VERSION}"]
        subprocess.run(install, check=True, env=environment)
        (folder / ".complete").touch()
    return interpreter


class Caller:
    """Calls the client in a process of its own."""

    def __init__(self, python: Path, url: str) -> None:
        self._python = python
        self._url = url

    def __call__(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The outcome: ``answer``, or ``error`` and ``text``. Fails when the client's process crashed."""
        command = [str(self._python), str(HERE / "calls.py"), self._url, name, json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150)
        lines = [line for line in done.stdout.splitlines() if line.startswith("OUTCOME ")]
        assert lines, f"{name} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        outcome: dict[str, Any] = json.loads(lines[-1].removeprefix("OUTCOME "))
        return outcome


@pytest.fixture(scope="module")
def call(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A service with the algorithm registered, and the client that calls it."""
    folder = tmp_path_factory.mktemp("client")
    shutil.copytree(HERE / "algorithm", folder / "algorithm")
    manifest = folder / "algorithms.yaml"
    manifest.write_text(MANIFEST.format(folder=folder / "algorithm", python=python, telemetry=folder / "telemetry"))
    command = [str(Path(sys.executable).with_name("nexus")), "serve", "--port", "0", "--algorithms", str(manifest)]
    command += ["--data-dir", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert service.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", service.stdout.readline())
    assert found, (folder / "log").read_text()
    yield Caller(python, found[0])
    service.send_signal(signal.SIGTERM)
    assert service.wait(30) == 0
    service.stdout.close()


def test_a_run_goes_from_create_to_result(call: Caller) -> None:
    """create, await and the result by its signed URL; the algorithm is the SDK's own runtime, storing to its result folder."""
    import urllib.request

    run_id = call("create_run", algorithm_parameters={"name": "world"}, algorithm_name="hello", tag="first")["answer"]
    result = call("await_run", request_id=run_id, algorithm="hello", poll_interval_seconds=1, wait_timeout_seconds=100)["answer"]
    assert result["status"] == "COMPLETED", result
    with urllib.request.urlopen(result["result_uri"]) as answer:
        assert json.load(answer) == {"greeting": "hello world"}


def test_an_algorithm_that_raises_fails_its_run_with_its_words(call: Caller) -> None:
    """The exception's text is what the client reads as the failure."""
    run_id = call("create_run", algorithm_parameters={"name": "x", "fail": True}, algorithm_name="hello", tag="bad")["answer"]
    result = call("await_run", request_id=run_id, algorithm="hello", poll_interval_seconds=1, wait_timeout_seconds=100)["answer"]
    assert result["status"] == "FAILED"
    assert "asked to fail" in json.dumps(result)


def test_results_and_metadata_are_there_right_after_create(call: Caller) -> None:
    """Read-your-writes: no 302 seconds of polling for a run that was just accepted (weakness 2)."""
    run_id = call("create_run", algorithm_parameters={"a": 1}, algorithm_name="sleeper", tag="now/ä b")["answer"]
    assert call("get_run_result", request_id=run_id, algorithm="sleeper")["answer"]["status"] in ("BUFFERED", "RUNNING")
    metadata = call("get_request_metadata", request_id=run_id, algorithm="sleeper")["answer"]
    assert metadata["tag"] == "now/ä b"
    assert metadata["applied_configuration"] is not None
    rows = call("get_run_results", tag="now/ä b")["answer"]
    assert [row["request_id"] for row in rows] == [run_id]


def test_a_dry_run_completes(call: Caller) -> None:
    """``dry_run=True`` ends COMPLETED and starts nothing."""
    run_id = call("create_run", algorithm_parameters={}, algorithm_name="sleeper", dry_run=True, tag="dry")["answer"]
    result = call("await_run", request_id=run_id, algorithm="sleeper", poll_interval_seconds=1, wait_timeout_seconds=20)["answer"]
    assert result["status"] == "COMPLETED"


def test_await_tagged_gives_one_result_a_tag(call: Caller) -> None:
    """The newest run of each tag is awaited, ordered by ``received_at`` as text (weakness 25)."""
    for name in ("old", "new"):
        newest = call("create_run", algorithm_parameters={"name": name}, algorithm_name="sleeper", dry_run=True, tag="two")[
            "answer"
        ]
    rows = call("await_tagged", tags=["two"], algorithm="sleeper", poll_interval_seconds=1)["answer"]
    assert [(row["request_id"], row["status"]) for row in rows] == [(newest, "COMPLETED")]


def test_cancel_ends_the_tree(call: Caller) -> None:
    """Cancelling the parent takes the child along, in the store too (weakness 16)."""
    parent = call("create_run", algorithm_parameters={}, algorithm_name="sleeper", tag="p")["answer"]
    named = {"algorithm_name": "sleeper", "request_id": parent}
    child = call("create_run", algorithm_parameters={}, algorithm_name="sleeper", tag="c", parent=named)["answer"]
    call("cancel_run", request_id=parent, algorithm="sleeper", initiator="me", reason="enough")
    for run_id in (parent, child):
        assert call("get_run_result", request_id=run_id, algorithm="sleeper")["answer"]["status"] == "CANCELLED"


def test_overrides_are_applied_and_shown(call: Caller) -> None:
    """The client's custom configuration reaches the applied configuration, limits and requests included (weakness 22)."""
    configuration = {"version": "v2", "max_deadline_seconds": 33, "max_retries": 2, "cpu_limit": "250m", "memory_limit": "64Mi",
                     "cpu_request": "100m", "memory_request": "32Mi", "workgroup_name": "default"}  # fmt: skip
    run_id = call(
        "create_run", algorithm_parameters={}, algorithm_name="sleeper", dry_run=True, tag="o", configuration=configuration
    )["answer"]
    shown = json.dumps(call("get_request_metadata", request_id=run_id, algorithm="sleeper")["answer"])
    for value in ("v2", "33", "250m", "64Mi", "100m", "32Mi"):
        assert value in shown


def test_a_bad_quantity_is_the_callers_error_with_the_text(call: Caller) -> None:
    """``cpu_limit: lots`` is refused at the door with words the caller sees (weakness 10)."""
    configuration = {"cpu_limit": "lots", "memory_limit": "1Gi"}
    outcome = call("create_run", algorithm_parameters={}, algorithm_name="sleeper", configuration=configuration)
    assert outcome["error"] == "BadRequestError"
    assert "lots" in outcome["text"]


def test_an_unknown_algorithm_is_the_callers_error(call: Caller) -> None:
    """The text names what is not registered."""
    outcome = call("create_run", algorithm_parameters={}, algorithm_name="nothing")
    assert outcome["error"] == "BadRequestError"
    assert "nothing" in outcome["text"]


@pytest.mark.parametrize("name", ["get_request_metadata", "get_run_result"])
def test_an_unknown_id_neither_crashes_nor_hangs_the_client(call: Caller, name: str) -> None:
    """404 comes in the one form that this client survives and does not poll for (weakness 13)."""
    outcome = call(name, request_id=UNKNOWN, algorithm="sleeper")
    assert "error" in outcome or outcome["answer"] is None


def test_a_tag_nobody_used_is_an_empty_list(call: Caller) -> None:
    """``[]``, never null."""
    assert call("get_run_results", tag="nobody")["answer"] == []


def test_an_unknown_parent_is_refused_once(call: Caller) -> None:
    """400 instead of 500, so that the client does not repeat it eleven times (weakness 12)."""
    named = {"algorithm_name": "sleeper", "request_id": UNKNOWN}
    outcome = call("create_run", algorithm_parameters={}, algorithm_name="sleeper", parent=named)
    assert outcome["error"] == "BadRequestError"
