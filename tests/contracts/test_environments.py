"""Local environments are built once by content, with the real `uv` and packages made here: no index is asked but in one test."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from nexus.adapters.environment_gate import Gate
from nexus.adapters.environment_recipes import WheelMaker
from nexus.adapters.environments import Environments, LocalEnvironment, _find_uv
from nexus.kernel.errors import NotAudited
from nexus.runs.model import ExitKind
from nexus.runs.ports import LaunchFailed
from tests.contracts.engine_subject import ProcessSubject

BACKEND = """
import zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as archive:
        archive.write("mine.py")
        archive.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n")
        archive.writestr("mine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("mine-1.0.dist-info/RECORD", "")
    return name
"""


def make_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel with one module that says its version."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


class Bench:
    """Environments whose `uv` sees only the wheels made here, and writes down each call."""

    def __init__(self, folder: Path, *, delay_s: float = 0) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        make_wheel(self.wheels, "tool", "1.0")
        make_wheel(self.wheels, "tool", "2.0")
        self.calls = folder / "calls"
        self.uv = folder / "uv"
        self.uv.write_text(f'#!/bin/sh\necho "$@" >> "{self.calls}"\nsleep {delay_s}\nexec "{_find_uv(os.environ["PATH"])}" "$@"\n')
        self.uv.chmod(0o755)
        nothing = folder / "index"  # of no package; uv takes no word of a variable that there be no index
        nothing.mkdir()
        self.variables = {
            **os.environ,
            "UV_FIND_LINKS": str(self.wheels),
            "UV_DEFAULT_INDEX": nothing.as_uri(),
            "UV_CACHE_DIR": str(folder / "cache"),
        }

    def environments(self, **options: float) -> Environments:
        return Environments(self.folder / "environments", self.uv, variables=self.variables, **options)  # type: ignore[arg-type]

    def builds(self) -> int:
        """How many environments were begun."""
        return sum(line.startswith("venv") for line in self.calls.read_text().splitlines())

    def requirements(self, text: str, name: str = "requirements.txt") -> dict[str, str]:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return {"requirements": str(path)}

    def project(self, text: str, name: str = "project", **files: str) -> dict[str, str]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").write_text(text)
        for file, content in files.items():
            (folder / file.replace("_", ".")).write_text(content)
        return {"project": str(folder)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def ask(environment: LocalEnvironment | None, code: str) -> str:
    """What the environment's Python prints."""
    assert environment is not None
    return subprocess.run(
        [environment.programs / "python", "-I", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


async def test_no_annotation_no_environment(bench: Bench) -> None:
    """Annotations that ask for no packages and no Python build nothing."""
    assert await bench.environments().ready({"working-directory": "/tmp", "completion": "exit-code"}) is None
    assert not bench.calls.exists()


async def test_one_build_for_the_same_content(bench: Bench) -> None:
    """Concurrent requests, a request of another service, and the same file in another folder share one build."""
    first, second = bench.environments(), bench.environments()
    local, twin = bench.requirements("tool==1.0\n"), bench.requirements("tool==1.0\n", "other/requirements.txt")
    got = await asyncio.gather(*(each.ready(local) for each in (first, first, second, second)), second.ready(twin))
    assert len(set(got)) == 1
    assert await bench.environments().ready(local) == got[0]
    assert bench.builds() == 1
    assert ask(got[0], "import tool; print(tool.version)") == "1.0"


async def test_other_content_is_another_environment(bench: Bench) -> None:
    """A changed file, included files counted, gives another environment; the first stays."""
    environments = bench.environments()
    local = bench.requirements("-r pins.txt\n")
    bench.requirements("tool==1.0\n", "pins.txt")
    old = await environments.ready(local)
    bench.requirements("tool==2.0\n", "pins.txt")
    new = await environments.ready(local)
    assert [ask(each, "import tool; print(tool.version)") for each in (old, new)] == ["1.0", "2.0"]


async def test_half_built_is_built_anew(bench: Bench) -> None:
    """An environment without its mark of completion, or whose Python is gone, is built again."""
    local = bench.requirements("tool==1.0\n")
    made = await bench.environments().ready(local)
    assert made is not None
    (made.folder / ".complete").unlink()
    (made.folder / "bin" / "python").unlink()
    assert await bench.environments().ready(local) == made
    (made.folder / "bin" / "python").unlink()
    assert await bench.environments().ready(local) == made
    assert ask(made, "import tool; print(tool.version)") == "1.0"
    assert bench.builds() == 3


async def test_a_failure_carries_the_resolvers_words(bench: Bench) -> None:
    """A requirement nobody has is a permanent failure with what uv says; the next try is a new one."""
    environments = bench.environments()
    local = bench.requirements("nobody-has-this==1.0\n")
    with pytest.raises(LaunchFailed, match="could not be built") as caught:
        await environments.ready(local)
    assert caught.value.permanent
    assert "nobody-has-this" in caught.value.details
    bench.requirements("tool==1.0\n")
    assert await environments.ready(local) is not None


async def test_hashes_are_required_when_given(bench: Bench) -> None:
    """A requirements file with hashes is installed with --require-hashes: a file that is not the pinned one is refused."""
    digest = hashlib.sha256((bench.wheels / "tool-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    pyproject = '[project]\nname = "p"\nversion = "1"\ndependencies = ["tool"]\n'
    good = bench.project(pyproject, requirements_txt=f"tool==1.0 \\\n    --hash=sha256:{digest}\n")
    assert ask(await bench.environments().ready(good), "import tool; print(tool.version)") == "1.0"
    bad = bench.project(pyproject, "bad", requirements_txt=f"tool==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(LaunchFailed) as caught:
        await bench.environments().ready(bad)
    assert "hash" in caught.value.details.lower()


async def test_dependencies_of_a_project_are_installed(bench: Bench) -> None:
    """A project without a build system gets its dependencies, and is not installed itself."""
    local = bench.project('[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["tool<2"]\n')
    made = await bench.environments().ready(local)
    assert ask(made, "import tool; print(tool.version)") == "1.0"
    assert ask(made, "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))") == "['tool']"


async def test_a_project_with_a_build_system_is_installed_from_its_sources(bench: Bench) -> None:
    """Its own code is installed, and a change of a source file gives another environment."""
    text = '[project]\nname = "mine"\nversion = "1.0"\n'
    text += '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    local = bench.project(text, backend_py=BACKEND, mine_py="value = 1\n")
    environments = bench.environments()
    first = await environments.ready(local)
    bench.project(text, backend_py=BACKEND, mine_py="value = 22\n")
    second = await environments.ready(local)
    assert [ask(each, "import mine; print(mine.value)") for each in (first, second)] == ["1", "22"]


async def test_a_locked_project_gets_its_locked_versions(bench: Bench) -> None:
    """A project with uv.lock gets the versions of the lock, though newer ones would do."""
    text = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["tool<2"]\n'
    local = bench.project(text)
    subprocess.run([bench.uv, "lock"], cwd=local["project"], env=bench.variables, check=True, capture_output=True)
    bench.project(text.replace("tool<2", "tool"))
    assert ask(await bench.environments().ready(local), "import tool; print(tool.version)") == "1.0"


async def test_a_named_python_is_used(bench: Bench) -> None:
    """`python` names a version of this machine; one that is not here is a clear, permanent failure."""
    running = ".".join(map(str, sys.version_info[:2]))
    made = await bench.environments().ready({"python": running})
    assert ask(made, "import sys; print('.'.join(map(str, sys.version_info[:2])))") == running
    with pytest.raises(LaunchFailed, match=r"no Python `3\.99` was found") as caught:
        await bench.environments().ready({"python": "3.99"})
    assert caught.value.permanent


async def test_missing_files_are_named(bench: Bench) -> None:
    """A folder or file that does not exist, or a pyproject.toml that cannot be read, is a failure that names it."""
    for local in ({"project": "/nowhere/p"}, {"requirements": "/nowhere/r.txt"}):
        with pytest.raises(LaunchFailed, match="/nowhere"):
            await bench.environments().ready(local)
    with pytest.raises(LaunchFailed, match="cannot be read"):
        await bench.environments().ready(bench.project("not toml ["))


async def test_a_build_has_a_time_limit(tmp_path: Path) -> None:
    """A build that takes too long is ended with its process, and may be tried again."""
    slow = Bench(tmp_path, delay_s=30)
    environments = slow.environments(limit_s=0.5)
    environments._interpreters[".".join(map(str, sys.version_info[:2]))] = sys.executable
    with pytest.raises(LaunchFailed, match="within") as caught:
        await environments.ready(slow.requirements("tool==1.0\n"))
    assert not caught.value.permanent


async def test_stop_ends_builds(tmp_path: Path) -> None:
    """Stopping ends a build under way; whoever waited hears of it."""
    slow = Bench(tmp_path, delay_s=30)
    environments = slow.environments()
    environments._interpreters[".".join(map(str, sys.version_info[:2]))] = sys.executable
    waiting = asyncio.create_task(environments.ready(slow.requirements("tool==1.0\n")))
    while not slow.calls.exists():
        await asyncio.sleep(0.01)
    await environments.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_our_wheel_is_complete_and_reproducible(tmp_path: Path) -> None:
    """The wheel of the running installation has every file with its hash, its dependencies, and the same bytes each time."""
    first, second = WheelMaker(tmp_path / "a").wheel(), WheelMaker(tmp_path / "b").wheel()
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        info = next(name.split("/")[0] for name in names if name.endswith("/METADATA"))
        assert {"nexus/__init__.py", "nexus/py.typed", "nexus/sdk/__init__.py"} <= set(names)
        assert not [name for name in names if "__pycache__" in name]
        assert "Requires-Dist: msgspec" in archive.read(f"{info}/METADATA").decode()
        recorded = dict(line.split(",", 1) for line in archive.read(f"{info}/RECORD").decode().splitlines())
        assert set(recorded) == set(names)
        digest = base64.urlsafe_b64encode(hashlib.sha256(archive.read("nexus/__init__.py")).digest()).rstrip(b"=").decode()
        assert recorded["nexus/__init__.py"].startswith(f"sha256={digest},")


@pytest.mark.slow
async def test_a_project_that_requires_us_gets_the_running_installation(tmp_path: Path) -> None:
    """`algorithm-nexus` among a project's dependencies is this installation, with what it needs from the index."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\ndependencies = ["algorithm-nexus"]\n')
    try:
        made = await Environments(tmp_path / "environments").ready({"project": str(project)})
    except LaunchFailed as failure:
        if failure.permanent:
            raise
        pytest.skip(f"no package index answered: {failure.details.splitlines()[-1:]}")
    assert made is not None
    place = Path(ask(made, "import nexus, msgspec; print(nexus.__file__)"))
    assert place.is_relative_to(made.folder)
    assert (made.programs / "nexus").exists()


async def test_an_attempt_runs_in_its_environment(bench: Bench, tmp_path: Path) -> None:
    """With a project, `python` is the environment's and the working directory the project's."""
    local = bench.project(
        '[project]\nname = "p"\nversion = "1"\ndependencies = ["tool"]\n',
        main_py="import os, tool; print(tool.version, os.getcwd())",
    )
    subject = ProcessSubject(tmp_path / "engine")
    subject.folder.mkdir()
    subject.engine._environments = bench.environments()
    await subject.start()
    launch = subject.launch_argv(("python", "main.py"), local=local)
    await subject.engine.prepare(local)
    await subject.engine.create(launch)
    end = await subject.ended(launch.run_id)
    assert (end.exit.kind, end.exit.code) == (ExitKind.EXITED, 0)
    assert await subject.engine.log(launch.run_id, 1, "stdout") == f"2.0 {Path(local['project']).resolve()}\n".encode()
    await subject.close()


def gated(bench: Bench, seen: list[str], *, name: str = "snapshot-1") -> Environments:
    """Environments behind a gate that notes what it is shown and refuses locks that hold tool 2.0."""

    def admit(lock: str, _: Mapping[str, str]) -> None:
        seen.append(lock)
        if "tool==2.0" in lock:
            raise NotAudited("`tool` 2.0 is vulnerable", hint="take 1.0")

    gate = Gate(name=name, admit=admit)
    return Environments(bench.folder / "environments", bench.uv, variables=bench.variables, gate=gate)


def pinned(bench: Bench, version: str) -> dict[str, str]:
    digest = hashlib.sha256((bench.wheels / f"tool-{version}-py3-none-any.whl").read_bytes()).hexdigest()
    return bench.requirements(f"tool=={version} \\\n    --hash=sha256:{digest}\n", f"{version}/requirements.txt")


async def test_a_gate_admits_what_is_installed(bench: Bench) -> None:
    """The gate is shown the pins before anything is built; a new snapshot judges, and builds, anew."""
    seen: list[str] = []
    first = await gated(bench, seen).ready(pinned(bench, "1.0"))
    again = await gated(bench, seen, name="snapshot-2").ready(pinned(bench, "1.0"))
    assert first is not None
    assert again is not None
    assert first.folder != again.folder
    assert len(seen) == 2
    assert "tool==1.0" in seen[0]


async def test_what_the_gate_refuses_is_not_built(bench: Bench) -> None:
    """A refused lock builds nothing, and the reason and what to do are in the details."""
    with pytest.raises(LaunchFailed) as caught:
        await gated(bench, []).ready(pinned(bench, "2.0"))
    assert "vulnerable" in caught.value.details
    assert "take 1.0" in caught.value.details
    assert bench.builds() == 0


async def test_behind_a_gate_what_is_not_pinned_is_refused(bench: Bench) -> None:
    """Requirements without hashes say nothing of what would be installed: they are refused unseen."""
    seen: list[str] = []
    with pytest.raises(LaunchFailed) as caught:
        await gated(bench, seen).ready(bench.requirements("tool\n"))
    assert "audited locks only" in caught.value.details
    assert seen == []
