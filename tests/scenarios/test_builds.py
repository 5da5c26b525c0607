"""Builds of environments end with the runs that wait for them, and with the service. The real `uv`, a build backend that hangs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.service import NEXUS, PATIENCE_S, Service, alive, eventually, pids

BACKEND = """
import os, subprocess, time, zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if not os.path.exists("{go}"):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        with open("{pids}", "a") as file:
            file.write(f"{{os.getpid()}} {{child.pid}} {{os.getppid()}}\\n")
        time.sleep(600)
    name = "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{{wheel_directory}}/{{name}}", "w") as archive:
        archive.writestr("mine.py", "")
        archive.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n")
        archive.writestr("mine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("mine-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = """
[project]
name = "mine"
version = "1.0"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
TEMPLATE = """
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata:
  name: {name}
  annotations: {{local.nexus/project: {project}, local.nexus/completion: exit-code}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: python -c "import mine"
"""


class Hanging:
    """A service with two algorithms, `one` and `two`, of one project, whose build hangs until :meth:`let_go`."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        self.go, self.pids = folder / "go", folder / "pids"
        (self.project / "pyproject.toml").write_text(PROJECT)
        (self.project / "backend.py").write_text(BACKEND.format(go=self.go, pids=self.pids))
        empty = folder / "index"
        empty.mkdir()
        self.service = Service(folder, environ={"UV_DEFAULT_INDEX": empty.as_uri(), "UV_CACHE_DIR": str(folder / "cache")})
        texts = [TEMPLATE.format(name=name, project=self.project) for name in ("one", "two")]
        self.service.manifests.write_text(self.service.manifests.read_text() + "".join(texts))

    def let_go(self) -> None:
        self.go.touch()

    def left(self) -> list[str]:
        """Folders of environments, half-built ones too."""
        assert self.service.data is not None
        return [path.name for path in (self.service.data / "environments").glob("*/") if (path / "bin").exists()]


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    hanging = Hanging(tmp_path)
    with hanging.service:
        yield hanging


def test_cancelling_the_last_run_that_waits_ends_its_build(hanging: Hanging) -> None:
    """`uv`, the backend and what that detached are gone, and so is the folder; the next run is built afresh and completes."""
    service = hanging.service
    first, second = service.submit(algorithm="one"), service.submit(algorithm="two")
    building = pids(hanging.pids)
    assert service.cancel(first, "one").status == 200
    assert all(map(alive, building)), "another run waits for it"
    assert service.cancel(second, "two").status == 200
    eventually(lambda: not any(map(alive, building)), "the build to end")
    eventually(lambda: not hanging.left(), "its folder to go")
    assert service.run(second, "two")["stage"] == "CANCELLED"
    hanging.let_go()
    assert service.end(service.submit(algorithm="one"), "one")["stage"] == "COMPLETED"


def test_a_service_told_to_stop_ends_its_builds(hanging: Hanging) -> None:
    """It is gone at once, with nothing left to build or to trust; the run waits for the next start, which builds afresh."""
    service = hanging.service
    run_id = service.submit(algorithm="one")
    building = pids(hanging.pids)
    assert service.stop() == 0, "it waited for the build"  # which takes ten minutes
    eventually(lambda: not any(map(alive, building)), "the kernel to end what was killed")
    assert not hanging.left()
    hanging.let_go()
    service.start()
    assert service.end(run_id, "one")["stage"] == "COMPLETED"


def test_a_killed_services_build_is_ended_by_the_next_start(hanging: Hanging) -> None:
    """Nobody waits for it any more: it is gone, with what it left, before the next start builds the same afresh."""
    service = hanging.service
    run_id = service.submit(algorithm="one")
    building = pids(hanging.pids)
    service.kill()
    assert all(map(alive, building))
    hanging.let_go()
    service.start()
    assert service.end(run_id, "one")["stage"] == "COMPLETED"
    assert not any(map(alive, building))


def apply(service: Service, file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(NEXUS), "apply", "-f", str(file), "--server", f"http://127.0.0.1:{service.port}"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_project_that_is_none_is_found_by_apply_and_at_the_start(hanging: Hanging, tmp_path: Path) -> None:
    """`nexus apply` and a start are refused with file, line, field and what to do; one that was lost since is told at the start."""
    service = hanging.service
    manifest = tmp_path / "late" / "three.yaml"
    manifest.parent.mkdir()
    manifest.write_text(TEMPLATE.format(name="three", project="solver"))
    refused = apply(service, manifest)
    assert refused.returncode != 0
    assert "three.yaml:7" in refused.stderr
    assert "`local.nexus/project`" in refused.stderr
    assert "does not exist" in refused.stderr
    shutil.copytree(hanging.project, tmp_path / "late" / "solver")
    assert apply(service, manifest).returncode == 0
    service.stop()
    shutil.rmtree(tmp_path / "late" / "solver")
    service.start()
    assert "`three`" in service.log.read_text()
    service.stop()
    (hanging.project / "pyproject.toml").unlink()
    assert "no `pyproject.toml`" in service.refused()
