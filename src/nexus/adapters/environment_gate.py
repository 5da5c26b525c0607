"""Building a local environment behind a gate: nothing is installed or executed that was not judged.

`environments` calls :func:`build` in place of its own way when it has a gate. Everything is judged before anything is installed:
the pins of the lock, and of a project that is installed itself what its build backend needs, resolved to pins for this purpose.
What was judged is written to a file of ours and installed from there, by hash and from wheels only: building a source archive
would fetch and run what no lock names. The project's wheel is then made offline, in an environment of exactly those pins.

What a project writes in `[tool.uv]` does not count here, because it could change what is installed; the machine's own settings do.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nexus.adapters.environment_recipes import OURS, Recipe
from nexus.kernel.errors import NexusError
from nexus.runs.ports import LaunchFailed

Run = Callable[..., Awaitable[None]]

_DEFAULT_BACKEND = ("setuptools>=40.8.0",)  # of a project that names none (PEP 517)
_BY_HASH = ("--require-hashes", "--no-build")
_NO_WHEEL = re.compile(r"Wheels are required for `([^`]+)`")
_PROBE_LIMIT_S = 30
_PROBE = """
import json, os, platform, sys
found = sys.implementation.version
version = f"{found.major}.{found.minor}.{found.micro}"
version += f"{found.releaselevel[0]}{found.serial}" if found.releaselevel != "final" else ""
print(json.dumps({
    "implementation_name": sys.implementation.name, "implementation_version": version, "os_name": os.name,
    "platform_machine": platform.machine(), "platform_release": platform.release(), "platform_system": platform.system(),
    "platform_version": platform.version(), "python_full_version": platform.python_version(),
    "platform_python_implementation": platform.python_implementation(),
    "python_version": ".".join(platform.python_version_tuple()[:2]), "sys_platform": sys.platform,
}))
"""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What the pins of an environment must pass.

    ``admit`` gets the pins' text and the marker environment (PEP 508) of the interpreter they are for, and raises a NexusError to
    refuse them; ``name`` says against what it judges, so that a new snapshot judges anew.
    """

    name: str
    admit: Callable[[str, Mapping[str, str]], object]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a build happens: the environment's *folder*, its interpreter, and *run*, which runs `uv` in the work folder."""

    folder: Path
    interpreter: str
    run: Run

    @property
    def work(self) -> Path:
        """A folder for what is needed meanwhile: judged pins, the build environment, the project's wheel."""
        return work_folder(self.folder)


def work_folder(folder: Path) -> Path:
    """The work folder of a build of the environment *folder*."""
    return folder.with_name(f"{folder.name}.work")


async def build(gate: Gate, recipe: Recipe, place: Place) -> None:
    """Builds the environment. Raises LaunchFailed, with nothing installed, when something is not admitted."""
    await asyncio.to_thread(_renew, place.work)
    try:
        await _build(gate, recipe, place)
    finally:
        await asyncio.to_thread(shutil.rmtree, place.work, ignore_errors=True)


async def _build(gate: Gate, recipe: Recipe, place: Place) -> None:
    machine = await asyncio.to_thread(_markers, place.interpreter)
    pins = await _pins(recipe, place)
    await asyncio.to_thread(_admit, gate, pins, machine, recipe, "what it installs")
    backend = await _backend_pins(recipe, place)
    await asyncio.to_thread(_admit, gate, backend, machine, recipe, "what its build backend needs (`[build-system] requires`)")
    await place.run("venv", "--no-project", "--python", place.interpreter, str(place.folder))
    await _install(recipe, place, place.folder, "pins.txt", pins)
    install = ("pip", "install", "--python", str(place.folder / "bin" / "python"), "--no-deps", "--no-build")
    if recipe.wheel is not None:
        await place.run(*install, recipe.wheel_requirement)  # what it needs is pinned in the lock, or not there
    if recipe.package is not None:
        await place.run(*install, str(await _wheel(recipe, place, backend)))


async def _pins(recipe: Recipe, place: Place) -> str:
    """The text that says what is installed, by hash; empty when nothing is. Raises LaunchFailed when something has no pins."""
    if recipe.lock is not None:
        exported = place.work / "exported.txt"
        await place.run(
            "export", "--frozen", "--no-dev", "--no-emit-project", "--no-emit-package", OURS, "--quiet", "--no-header",
            "--project", str(recipe.lock.parent), "--python", place.interpreter, "--output-file", str(exported),
        )  # fmt: skip
        return _text(exported)
    if recipe.requirements and not recipe.hashed:
        hint = "give it a requirements file with hashes, or a `uv.lock`"
        raise LaunchFailed(_refused(recipe), f"This service builds environments from audited locks only.\nhint: {hint}")
    return "\n".join([_text(path) for path in recipe.requirements])


async def _backend_pins(recipe: Recipe, place: Place) -> str:
    """What the project's build backend needs, resolved to pins with hashes from wheels; empty when it needs nothing."""
    wanted = _backend_needs(recipe)
    if not wanted:
        return ""
    asked, resolved = place.work / "backend.in", place.work / "resolved.txt"
    asked.write_text("".join(f"{requirement}\n" for requirement in wanted), encoding="utf-8")
    await _from_wheels(
        recipe, place, "pip", "compile", str(asked), "--generate-hashes", "--no-build", "--no-header", "--no-annotate", "--quiet",
        "--python", place.interpreter, "--output-file", str(resolved),
    )  # fmt: skip
    return _text(resolved)


def _backend_needs(recipe: Recipe) -> tuple[str, ...]:
    if recipe.package is None:
        return ()
    from packaging.requirements import InvalidRequirement, Requirement  # a quarter of a service's start, if imported there

    table: Any = tomllib.loads(_text(recipe.package / "pyproject.toml")).get("build-system", {})
    listed = table.get("requires", _DEFAULT_BACKEND) if isinstance(table, dict) else None
    try:
        return tuple(str(Requirement(text)) for text in listed)  # type: ignore[union-attr]
    except (TypeError, InvalidRequirement) as error:
        raise LaunchFailed(
            _refused(recipe), f"`[build-system] requires` of its pyproject.toml is no list of requirements: {error}"
        ) from error


async def _wheel(recipe: Recipe, place: Place, backend: str) -> Path:
    """The project's own wheel, made offline with what was admitted and nothing else."""
    environment, made = place.work / "backend", place.work / "wheel"
    await place.run("venv", "--no-project", "--python", place.interpreter, str(environment))
    await _install(recipe, place, environment, "backend.txt", backend)
    await place.run(
        "build", "--wheel", "--no-build-isolation", "--offline", "--no-config", "--python", str(environment / "bin" / "python"),
        "--out-dir", str(made), str(recipe.package),
    )  # fmt: skip
    found = sorted(made.glob("*.whl"))
    if len(found) != 1:
        raise LaunchFailed(f"the environment of `{recipe.name}` could not be built", "its build backend made no wheel")
    return found[0]


async def _install(recipe: Recipe, place: Place, environment: Path, name: str, pins: str) -> None:
    """Installs exactly *pins*, from a file that nobody else writes. One that needs something unpinned is an error of `uv`."""
    if not _lines(pins):
        return
    judged = place.work / name
    judged.write_text(pins, encoding="utf-8")
    python = str(environment / "bin" / "python")
    await _from_wheels(recipe, place, "pip", "install", "--python", python, *_BY_HASH, "--requirements", str(judged))


async def _from_wheels(recipe: Recipe, place: Place, *arguments: str) -> None:
    try:
        await place.run(*arguments)
    except LaunchFailed as failure:
        without = sorted(set(_NO_WHEEL.findall(failure.details)))
        if not without:
            raise
        names = ", ".join(f"`{name}`" for name in without)
        hint = "pin versions that have a wheel for this machine, or put a wheel on the index"
        detail = f"no wheel for this machine: {names}. Building a source archive would run what nobody audited.\nhint: {hint}"
        raise LaunchFailed(_refused(recipe), f"{detail}\n{failure.details}") from failure


def _admit(gate: Gate, pins: str, machine: Mapping[str, str], recipe: Recipe, what: str) -> None:
    """Raises LaunchFailed, with the gate's words, when it does not admit *pins*. Nothing to install needs no leave."""
    if not _lines(pins):
        return
    try:
        gate.admit(pins, machine)
    except NexusError as error:
        raise LaunchFailed(_refused(recipe), f"{what} was refused: {error.text()}") from error


def _lines(pins: str) -> list[str]:
    return [line for line in pins.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _refused(recipe: Recipe) -> str:
    return f"the environment of `{recipe.name}` is not built"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LaunchFailed(f"`{path}` cannot be read", str(error)) from error


def _renew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)


def _markers(interpreter: str) -> dict[str, str]:
    """The marker environment of the interpreter, from itself: a lock may pin one version for 3.11.3 and another for 3.11.4."""
    try:
        done = subprocess.run(
            [interpreter, "-I", "-S", "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_LIMIT_S, check=True, cwd="/"
        )
        return msgspec.convert(json.loads(done.stdout), dict[str, str])
    except (OSError, ValueError, subprocess.SubprocessError, msgspec.ValidationError) as error:
        raise LaunchFailed(f"the Python `{interpreter}` does not answer", str(error)[:500]) from error
