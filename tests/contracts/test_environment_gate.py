"""Behind a gate nothing is installed or executed that was not judged: with the real `uv`, the real audit, and an index on loopback
that offers a build backend which leaves a mark wherever it runs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from nexus.adapters import advisories
from nexus.adapters.environment_gate import Gate
from nexus.adapters.environments import Environments
from nexus.app import wiring
from nexus.app.settings import Settings
from nexus.kernel.clock import SystemClock
from nexus.runs.ports import LaunchFailed
from nexus.variants import gate
from tests.contracts.advisory_server import Answer, serving
from tests.contracts.test_environments import ask
from tests.unit.variants.auditing import NOW, advisory, snapshot

WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
BACKEND = """
import zipfile
{top}
def get_requires_for_build_wheel(config_settings=None):
    return {dynamic}
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {inside}
    name = "{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{{wheel_directory}}/{{name}}", "w") as archive:
        archive.writestr("{name}.py", "value = 1")
        archive.writestr("{name}-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        archive.writestr("{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("{name}-1.0.dist-info/RECORD", "")
    return name
"""


def backend(name: str = "mine_nx", *, top: str = "", inside: str = "pass", dynamic: tuple[str, ...] = ()) -> str:
    """A backend that makes a wheel of *name*, with code of its own at import and while it builds."""
    return BACKEND.format(name=name, top=top, inside=inside, dynamic=list(dynamic))


class World:
    """An index, a project, and what was executed: `bad_nx`, which the audit knows as vulnerable, and `source_nx` leave a mark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.judged: list[str] = []
        self.address = ""
        self.mark = folder / "executed"
        trap = f"open({str(self.mark)!r}, 'a').write(__name__ + ' ')"
        self.wheel("bad_nx", {"bad_nx.py": backend(top=trap)})
        self.wheel("helper_nx", {"helper_nx.py": "helps = True"})
        self.wheel("good_nx", {"good_nx.py": backend(top="import helper_nx")}, "helper-nx")
        self.wheel("greedy_nx", {"greedy_nx.py": backend(inside="import bad_nx", dynamic=("bad-nx",))})
        self.wheel("tool_nx", {"tool_nx.py": "version = 1"})
        self.wheel("needy_nx", {"needy_nx.py": ""}, "bad-nx")
        self.archive("source_nx", {"setup_nx.py": backend("source_nx", top=trap)}, "setup_nx")

    def __call__(self, path: str, _: object) -> Answer:
        name = path.strip("/").rpartition("/")[2]
        if path.startswith("/simple/"):
            held = [file for file in self.files if file.split("-")[0].replace("_", "-") == name]
            links = [f'<a href="/files/{file}#sha256={self.hash(file)}">{file}</a>' for file in held]
            return (200 if held else 404), "\n".join(links).encode()
        self.fetched.append(name)
        return (200, self.files[name]) if name in self.files else (404, b"")

    def wheel(self, name: str, files: Mapping[str, str], *needs: str) -> None:
        requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n{requires}"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            info = f"{name}-1.0.dist-info"
            for inner, text in {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": WHEEL, f"{info}/RECORD": ""}.items():
                archive.writestr(inner, text)
        self.files[f"{name}-1.0-py3-none-any.whl"] = buffer.getvalue()

    def archive(self, name: str, files: Mapping[str, str], builder: str) -> None:
        """A source archive that brings its own backend."""
        described = f'[build-system]\nrequires = []\nbuild-backend = "{builder}"\nbackend-path = ["."]\n'
        metadata = f"Metadata-Version: 2.2\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for inner, text in {**files, "pyproject.toml": described, "PKG-INFO": metadata}.items():
                entry = tarfile.TarInfo(f"{name}-1.0/{inner}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        self.files[f"{name}-1.0.tar.gz"] = buffer.getvalue()

    def hash(self, file: str) -> str:
        return hashlib.sha256(self.files[file]).hexdigest()

    def pin(self, file: str, marker: str = "") -> str:
        name = file.split("-")[0].replace("_", "-")
        return f"{name}==1.0{f' ; {marker}' if marker else ''} \\\n    --hash=sha256:{self.hash(file)}\n"

    def project(self, *requires: str, builder: str, pins: str = "") -> dict[str, str]:
        """A project that is installed itself, with these build requirements, and pins when it has any."""
        place = self.folder / "project"
        place.mkdir()
        listed = ", ".join(f'"{text}"' for text in requires)
        text = '[project]\nname = "mine-nx"\nversion = "1.0"\n'
        text += f'[build-system]\nrequires = [{listed}]\nbuild-backend = "{builder}"\nbackend-path = ["."]\n'
        (place / "pyproject.toml").write_text(text)
        (place / "inside_nx.py").write_text(backend())
        if pins:
            (place / "requirements.txt").write_text(pins)
        return {"project": str(place)}

    def requirements(self, text: str) -> dict[str, str]:
        (self.folder / "requirements.txt").write_text(text)
        return {"requirements": str(self.folder / "requirements.txt")}

    def environments(self) -> Environments:
        held = snapshot(advisory("BAD-1", "bad-nx", fixed=""))

        def admit(pins: str, machine: Mapping[str, str]) -> None:
            self.judged.append(pins)
            gate.require(pins, held, NOW, targets=(machine,))

        variables = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "UV_CACHE_DIR": str(self.folder / "cache"),
            "UV_DEFAULT_INDEX": f"{self.address}/simple", "UV_HTTP_RETRIES": "0",
        }  # fmt: skip
        made = Environments(self.folder / "environments", variables=variables, gate=Gate(name="s", admit=admit))
        made._interpreters[".".join(map(str, sys.version_info[:2]))] = sys.executable
        return made

    async def refused(self, local: dict[str, str]) -> str:
        """What the refusal says; nothing was installed, nothing ran, and the build's folders are gone."""
        with pytest.raises(LaunchFailed, match="is not built") as caught:
            await self.environments().ready(local)
        assert caught.value.permanent
        assert not self.mark.exists()
        assert not [path for path in (self.folder / "environments").iterdir() if path.is_dir() and path.name != "wheels"]
        return caught.value.details


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with serving(made, "text/html") as made.address:
        yield made


async def test_a_vulnerable_build_backend_is_never_executed(world: World) -> None:
    """What `[build-system] requires` names is judged as pins are; refused, it is named, and nothing of it is fetched to be run."""
    details = await world.refused(world.project("bad-nx", builder="bad_nx", pins=world.pin("tool_nx-1.0-py3-none-any.whl")))
    assert "[build-system] requires" in details
    assert "bad-nx==1.0 is vulnerable (BAD-1)" in details
    assert "hint:" in details


async def test_an_admitted_backend_builds_with_exactly_what_was_judged(world: World) -> None:
    """Backend and what it needs are pinned by hash, judged, and the project is built and installed with them."""
    made = await world.environments().ready(
        world.project("good-nx", builder="good_nx", pins=world.pin("tool_nx-1.0-py3-none-any.whl"))
    )
    assert ask(made, "import mine_nx, tool_nx; print(mine_nx.value, tool_nx.version)") == "1 1"
    assert ask(made, "import importlib.util as u; print(u.find_spec('good_nx'))") == "None"
    lock, needs = world.judged
    assert "tool-nx==1.0" in lock
    assert "good-nx==1.0" in needs
    assert "helper-nx==1.0" in needs
    assert needs.count("--hash=sha256:") == 2


async def test_what_a_backend_asks_for_while_it_builds_is_not_fetched(world: World) -> None:
    """A judged backend that wants more when it is called gets nothing: the build fails, and what it wanted never ran."""
    with pytest.raises(LaunchFailed, match="could not be built"):
        await world.environments().ready(world.project("greedy-nx", builder="greedy_nx"))
    assert not world.mark.exists()
    assert not [name for name in world.fetched if name.startswith("bad_nx")]


async def test_a_project_that_builds_itself_needs_nothing(world: World) -> None:
    """A backend in the project's own folder is its own code, as what the run executes is; without pins nothing is judged."""
    made = await world.environments().ready(world.project(builder="inside_nx"))
    assert ask(made, "import mine_nx; print(mine_nx.value)") == "1"
    assert world.judged == []


async def test_a_source_archive_is_refused(world: World) -> None:
    """A pin that only a build could install is named, with what to do; neither its backend nor anything else runs."""
    details = await world.refused(world.requirements(world.pin("source_nx-1.0.tar.gz")))
    assert "no wheel for this machine: `source-nx`" in details
    assert "hint: pin versions that have a wheel" in details


async def test_a_source_archive_that_was_built_before_is_refused_too(world: World) -> None:
    """A wheel that an ungated build left in the cache does not slip in."""
    local = world.requirements(world.pin("source_nx-1.0.tar.gz"))
    free = world.environments()
    free._gate = None
    assert await free.ready(local) is not None
    world.mark.unlink()
    with pytest.raises(LaunchFailed, match="is not built"):
        await world.environments().ready(local)
    assert not world.mark.exists()


async def test_a_dependency_that_the_lock_leaves_out_is_not_installed(world: World) -> None:
    """A lock without one of its dependencies cannot bring it in unseen, from requirements nor from a doctored `uv.lock`."""
    with pytest.raises(LaunchFailed) as caught:
        await world.environments().ready(world.requirements(world.pin("needy_nx-1.0-py3-none-any.whl")))
    assert "bad-nx" in caught.value.details
    place = world.folder / "locked"
    place.mkdir()
    (place / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["needy-nx"]\n'
    )
    registry = f'{{ registry = "{world.address}/simple" }}'
    file = "needy_nx-1.0-py3-none-any.whl"
    (place / "uv.lock").write_text(
        'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n\n'
        f'[[package]]\nname = "needy-nx"\nversion = "1.0"\nsource = {registry}\n'
        f'wheels = [{{ url = "{world.address}/files/{file}", hash = "sha256:{world.hash(file)}" }}]\n\n'
        '[[package]]\nname = "p"\nversion = "1"\nsource = { virtual = "." }\ndependencies = [{ name = "needy-nx" }]\n'
    )
    with pytest.raises(LaunchFailed) as caught:
        await world.environments().ready({"project": str(place)})
    assert "bad-nx" in caught.value.details
    assert not [name for name in world.fetched if name.startswith("bad_nx") and name.endswith(".tar.gz")]
    assert len(world.judged) == 2


async def test_markers_are_judged_for_the_very_interpreter(world: World) -> None:
    """A vulnerable pin counts when its marker holds for this micro version, and does not when it holds for another only."""
    bad, tool = "bad_nx-1.0-py3-none-any.whl", "tool_nx-1.0-py3-none-any.whl"
    here = "python_full_version == '{}.{}.{}'".format(*sys.version_info[:3])
    assert "vulnerable" in await world.refused(world.requirements(world.pin(bad, here)))
    other = here.replace("==", "!=")
    made = await world.environments().ready(world.requirements(world.pin(bad, other) + world.pin(tool)))
    assert ask(made, "import tool_nx, importlib.util as u; print(u.find_spec('bad_nx'))") == "None"


async def test_what_was_judged_is_what_is_installed(world: World) -> None:
    """A requirements file that changes after it was judged changes nothing."""
    local = world.requirements(world.pin("tool_nx-1.0-py3-none-any.whl"))
    environments = world.environments()
    real = environments._gate
    assert real is not None

    def admit(pins: str, machine: Mapping[str, str]) -> None:
        real.admit(pins, machine)
        world.requirements(world.pin("bad_nx-1.0-py3-none-any.whl"))

    environments._gate = Gate(name="s", admit=admit)
    made = await environments.ready(local)
    assert ask(made, "import tool_nx, importlib.util as u; print(u.find_spec('bad_nx'))") == "None"


async def test_a_python_alone_needs_no_lock(world: World) -> None:
    """An environment of nothing but an interpreter installs nothing, so there is nothing to judge."""
    made = await world.environments().ready({"python": ".".join(map(str, sys.version_info[:2]))})
    assert ask(made, "print(1)") == "1"


@pytest.mark.parametrize("requires", ["-r other.txt", "bad-nx @ http://127.0.0.1:1/x.tar.gz", "not a requirement"])
async def test_build_requirements_that_cannot_be_pinned_are_refused(world: World, requires: str) -> None:
    """What is no requirement, or cannot be resolved to a wheel, ends the build before anything runs."""
    with pytest.raises(LaunchFailed):
        await world.environments().ready(world.project(requires, builder="bad_nx"))
    assert not world.mark.exists()


@pytest.mark.parametrize(
    "line",
    ["./library", "-e ./library", "-r other.txt", "--extra-index-url http://127.0.0.1:1/simple", "--no-binary :all:", "tool-nx"],
)
async def test_a_line_that_pins_nothing_refuses_the_whole_file(world: World, line: str) -> None:
    """Beside pins with hashes, a folder, an option or a bare name would bring in what nobody judged."""
    (world.folder / "other.txt").write_text(world.pin("bad_nx-1.0-py3-none-any.whl"))
    (world.folder / "library").mkdir()
    details = await world.refused(world.requirements(world.pin("helper_nx-1.0-py3-none-any.whl") + line + "\n"))
    assert "was not audited" in details
    assert world.fetched == []


async def test_the_service_s_gate_is_the_snapshot_it_was_started_with(world: World) -> None:
    """`--advisories FOLDER` gives environments that judge by that folder's records, and names them in the refusal."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
    affected = [{"package": {"ecosystem": "PyPI", "name": "tool-nx"}, "ranges": ranges}]
    record = {"id": "REAL-1", "modified": "2026-11-20T00:00:00Z", "affected": affected}
    (world.folder / "records").mkdir()
    (world.folder / "records" / "REAL-1.json").write_text(json.dumps(record))
    reading = advisories.read_sources([world.folder / "records"], complete=True)
    advisories.save(world.folder / "snapshot", *advisories.make(reading, now=NOW))
    environments = world.environments()
    environments._gate = wiring._gate(Settings(advisories=str(world.folder / "snapshot")), SystemClock())
    with pytest.raises(LaunchFailed) as caught:
        await environments.ready(world.requirements(world.pin("tool_nx-1.0-py3-none-any.whl")))
    assert "tool-nx==1.0 is vulnerable (REAL-1)" in caught.value.details
    made = await environments.ready(world.requirements(world.pin("helper_nx-1.0-py3-none-any.whl")))
    assert ask(made, "import helper_nx; print(helper_nx.helps)") == "True"
