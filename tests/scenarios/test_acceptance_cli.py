"""Commands of runs at the edges of what people type, against a real service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.service import NEXUS, PATIENCE_S, Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("cli")) as running:
        yield running


def nexus(service: Service, *words: str, given: bytes = b"", where: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """A command on the service."""
    environment = {**os.environ, "NEXUS__SERVER": f"http://127.0.0.1:{service.port}"}
    return subprocess.run(
        [NEXUS, *words], input=given, capture_output=True, env=environment, cwd=where, timeout=PATIENCE_S, check=False
    )


def test_a_dash_is_the_output(service: Service, tmp_path: Path) -> None:
    """`--to -` prints the result, and makes no file of that name."""
    run_id = service.submit(["report_upload", "hello"])
    service.end(run_id)
    done = nexus(service, "runs", "result", f"agent/{run_id}", "--to", "-", where=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"hello")
    assert list(tmp_path.iterdir()) == []


def test_a_time_limit_without_a_wait_is_refused(service: Service) -> None:
    """An option that would do nothing is a mistake, and nothing is submitted."""
    before = len(service.json("GET", "/algorithm/latest/runs?algorithm=bare")["runs"])
    done = nexus(service, "runs", "submit", "bare", "--timeout", "5s")
    assert done.returncode == 2
    assert b"--wait" in done.stderr
    assert len(service.json("GET", "/algorithm/latest/runs?algorithm=bare")["runs"]) == before


def test_nothing_on_standard_input_is_called_empty(service: Service) -> None:
    """An empty payload is told as that, not as broken JSON."""
    done = nexus(service, "runs", "submit", "bare", "--payload", "-")
    assert done.returncode == 2
    assert b"the parameters are empty" in done.stderr


def test_logs_of_an_attempt_that_never_was_are_an_error(service: Service) -> None:
    """An attempt that was never begun is told apart from one that wrote nothing."""
    run_id = service.submit(["report"])
    service.end(run_id)
    done = nexus(service, "runs", "logs", f"agent/{run_id}", "--attempt", "9")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"has no attempt 9" in done.stderr
    assert nexus(service, "runs", "logs", f"agent/{run_id}", "--attempt", "1").returncode == 0
