"""Drives `uv`: resolving, dry-run installs, a registry's own `uv.lock`. Implements Resolver and Locker of `nexus.variants.ports`.

Questions are answered in a throw-away folder; the registry's files are read and never written. The index, its credentials and
proxies are uv's own configuration (environment, `uv.toml`, keyring) and the machine's pip configuration where uv has none;
what looks like a credential is cut from every text that leaves this module. uv never downloads an interpreter, and does not
build source archives unless the question says so, because a build runs the package's code.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from nexus.adapters import indexes
from nexus.adapters.uvprogram import find_packaged
from nexus.kernel.errors import ResolverUnavailable
from nexus.variants import pins as pin_files
from nexus.variants.pins import Pin
from nexus.variants.ports import Installable, Problem, Resolution, Target, Unsatisfiable

_SECRET = re.compile(r"(?<=://)[^/@\s]+@")
_MAX_OUTPUT = 64 * 1024 * 1024
_OWN_TABLES = (
    "conflicts",
    "package",
    "workspace",
    "dev-dependencies",
    "default-groups",
    "dependency-groups",
    "managed",
    "exclude-newer",
)
_INSTALLING = threading.Lock()  # uv locks the interpreter's folder for an install, a dry one too, and polls it every 5 s
_NOISE = re.compile(r"\s*(warning:|Using CPython|Resolved \d|Querying|hint: While the active Python)")
_STALE = "needs to be updated"
_NO_WHEEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\{[^}]*\})?==\S+ has no usable wheels")
_MAX_BUILT = 20
_AT_ONCE = "4"  # requests of one uv: several run side by side, and name servers that drop bursts cost each 5 s (seen 9 times of 10)
_WHEELS = ("--only-binary", ":all:", "--require-hashes")
_NO_SOLUTION = "No solution found when resolving dependencies"


@dataclass(frozen=True, slots=True)
class _Answer:
    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Uv:
    """uv as a resolver. ``time_limit_s`` bounds each call; ``environ`` replaces the process's environment in tests."""

    time_limit_s: float = 120.0
    binary: str = ""
    environ: Mapping[str, str] | None = None
    offline: bool = False
    build: bool = False  # for locks; a Problem says it for itself
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set, init=False, repr=False, compare=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)

    def end(self) -> None:
        """Ends every call that is under way and refuses later ones; each raises ResolverUnavailable. For interrupts."""
        self._ended.set()
        for process in tuple(self._running):
            _kill(process)

    def resolve(self, problem: Problem, *, limit_s: float = math.inf) -> Resolution | Unsatisfiable:
        """Pins for every platform and Python from ``problem.python`` on, or the proof that there are none."""
        with _folder() as folder:
            (folder / "pyproject.toml").write_text(_project(problem))
            arguments = [
                "pip",
                "compile",
                "pyproject.toml",
                "--universal",
                "--generate-hashes",
                "--no-header",
                "--annotation-style",
                "split",
            ]
            arguments += ["--python", sys.executable, "--python-version", problem.python, *self._newer(problem.exclude_newer)]
            arguments += [] if problem.build else ["--no-build"]
            arguments += [] if problem.dependencies else ["--no-deps"]
            if problem.preferences:
                (folder / "pins.txt").write_text(_preferred(problem.preferences))
                arguments += ["--output-file", "pins.txt", "--quiet"]
                arguments += [part for name in problem.upgrade for part in ("--upgrade-package", name)]
            answer = self._run(arguments, folder, limit_s)
            if answer.code:
                return self._no_solution(answer, "resolve")
            text = (folder / "pins.txt").read_text() if problem.preferences else answer.out
        return Resolution(pins=self._pins(text))

    def install_check(self, pins: Sequence[Pin], target: Target) -> Installable:
        """Whether the pins install on *target*: from wheels with everything they need, else with some of them built."""
        indexed, sources = pin_files.split(pins)
        alone = ["--no-deps"] if sources else []  # what a Git source needs is not known before a build
        answer = self._dry_run(indexed, target, [*_WHEELS, *alone])
        built: tuple[str, ...] = ()
        while answer.code:
            match = _NO_WHEEL.search(answer.err)
            if match is None or match[1] in built or len(built) > _MAX_BUILT:
                return Installable(problem=_reason(answer.err))
            built = (*built, match[1])
            answer = self._dry_run([pin for pin in indexed if pin.name not in built], target, [*_WHEELS, "--no-deps"])
        if built:  # without dependencies no metadata is read, so a dry run of archives builds nothing
            answer = self._dry_run([pin for pin in indexed if pin.name in built], target, ["--no-deps", "--require-hashes"])
        return Installable(problem=_reason(answer.err)) if answer.code else Installable(built=built)

    def _dry_run(self, pins: Sequence[Pin], target: Target, options: Sequence[str]) -> _Answer:
        """One dry run of an install. Raises ResolverUnavailable when the index does not answer."""
        with _folder() as folder:
            (folder / "requirements.txt").write_text(pin_files.render(pins, "nexus variants check"))
            arguments = ["pip", "install", "--dry-run", "--target", "site", "--python", sys.executable, "-r", "requirements.txt"]
            arguments += ["--python-version", target.python, "--python-platform", target.platform, *options]
            with _INSTALLING:
                answer = self._run(arguments, folder)
        if answer.code and _is_outage(answer.err):
            raise self._unavailable(answer, "install")
        return answer

    def is_fresh(self, root: str) -> str:
        """Why the registry's `uv.lock` does not answer its declaration; empty when it does."""
        with _copy(Path(root)) as folder:
            answer = self._run(["lock", "--check", *self._building(), *_interpreter(folder)], folder)
        if answer.code == 0:
            return ""
        if _is_outage(answer.err) or not any(words in answer.err for words in (_STALE, _NO_SOLUTION)):
            raise self._unavailable(answer, "check the lock")
        return _reason(answer.err)

    def lock(self, root: str, *, upgrade: Sequence[str] | None = ()) -> str | Unsatisfiable:
        """The text of a renewed `uv.lock`; *upgrade* None renews every package."""
        chosen = ["--upgrade"] if upgrade is None else [part for name in upgrade for part in ("--upgrade-package", name)]
        with _copy(Path(root)) as folder:
            answer = self._run(["lock", *self._building(), *_interpreter(folder), *chosen], folder)
            if answer.code:
                return self._no_solution(answer, "lock")
            return (folder / "uv.lock").read_text()

    def export(self, root: str, extra: str, lock: str) -> tuple[Pin, ...]:
        """What the lock text pins for one extra."""
        with _copy(Path(root)) as folder:
            (folder / "uv.lock").unlink(missing_ok=True)
            (folder / "uv.lock").write_text(lock)
            arguments = ["export", "--frozen", "--no-emit-project", "--no-default-groups", "--no-header", "--extra", extra]
            answer = self._run([*arguments, *_interpreter(folder)], folder)
        if answer.code:
            raise self._unavailable(answer, f"export `{extra}`")
        return self._pins(answer.out)

    def _pins(self, text: str) -> tuple[Pin, ...]:
        read = pin_files.parse(text)
        if read.findings:
            raise ResolverUnavailable(
                f"uv wrote something this version cannot read: {read.findings[0].message}", hint="use the uv this was tested with"
            )
        return tuple(replace(pin, line_number=0) for pin in read.pins)

    def _building(self) -> list[str]:
        return [] if self.build else ["--no-build"]

    def _newer(self, date: str) -> list[str]:
        return ["--exclude-newer", date] if date else []

    def _no_solution(self, answer: _Answer, doing: str) -> Unsatisfiable:
        """R1: only the solver's own verdict is one; anything else is a failure of the tool or the index."""
        if _NO_SOLUTION in answer.err and not _is_outage(answer.err):
            return Unsatisfiable(proof=_reason(answer.err))
        raise self._unavailable(answer, doing)

    def _unavailable(self, answer: _Answer, doing: str) -> ResolverUnavailable:
        reason = _reason(answer.err) or f"exit {answer.code} without a word"
        if _is_outage(answer.err):
            reason = ": ".join(line.strip() for line in reason.splitlines())  # from the request down to the socket
        hint = "check the network and uv's index settings (UV_DEFAULT_INDEX, uv.toml), then repeat; nothing was written"
        if "disabled" in reason and "build" in reason.lower():
            hint = (
                "a source archive or Git source must be built, which runs its code: allow it with `build = true` in `[tool.nexus]`"
            )
        return ResolverUnavailable(f"uv could not {doing}: {reason}", hint=hint)

    def _run(self, arguments: Sequence[str], folder: Path, limit_s: float = math.inf) -> _Answer:
        limit_s = min(limit_s, self.time_limit_s)
        command = [self._binary(), *arguments, "--color", "never", "--no-progress", *(["--offline"] if self.offline else [])]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that Git and builds below it end with it
        )
        self._running.add(process)
        try:
            if self._ended.is_set():
                raise ResolverUnavailable("the command was interrupted")
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise ResolverUnavailable(
                f"uv did not answer within {limit_s:g} s",
                hint="check the network, or allow more time with `--time-limit`",
            ) from None
        finally:
            _end(process)
            self._running.discard(process)
        if self._ended.is_set():
            raise ResolverUnavailable("the command was interrupted")
        return _Answer(
            process.returncode, out[:_MAX_OUTPUT].decode(errors="replace"), clean(err[-_MAX_OUTPUT:].decode(errors="replace"))
        )

    def _binary(self) -> str:
        found = self.binary or find_packaged() or shutil.which("uv", path=self._environment().get("PATH"))
        if not found or not Path(found).is_file():
            raise ResolverUnavailable("`uv` is not installed here", hint="install it with `python -m pip install uv`")
        return found

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ if self.environ is None else self.environ)
        environment.pop("VIRTUAL_ENV", None)  # uv warns when it is not the folder's own
        if (
            "UV_DEFAULT_INDEX" not in environment
            and "UV_INDEX_URL" not in environment
            and (index := indexes.pip_default(environment))
        ):
            environment["UV_DEFAULT_INDEX"] = index
        environment.setdefault("UV_CONCURRENT_DOWNLOADS", _AT_ONCE)
        return environment | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}


def clean(text: str) -> str:
    """*text* without credentials in addresses and without control characters a terminal would obey."""
    safe = _SECRET.sub("***@", text)
    return "".join(character for character in safe if character.isprintable() or character in "\n\t")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends uv and what it started (Git, builds) when it is still there, and closes its pipes."""
    _kill(process)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _reason(err: str) -> str:
    """uv's words without its progress lines and without its `error:` labels."""
    lines = [line for line in err.splitlines() if line.strip() and not _NOISE.match(line)]
    text = "\n".join(lines)
    start = text.find("error:")
    text = text[start:] if start >= 0 else text
    text = re.sub(r"(?m)^error:\s*(No solution found when resolving dependencies[^\n]*:?\n)?", "", text)
    return re.sub(r"(?m)^\s*cause:\s*", "", text).strip()[:20_000]


def _is_outage(err: str) -> bool:
    words = ("Failed to fetch", "error sending request", "Request failed after", "dns error", "tcp connect error", "status code 5")
    return any(word in err for word in words)


def _project(problem: Problem) -> str:
    """The `pyproject.toml` that asks uv this question: the registry's uv settings, and the requirements as plain dependencies."""
    import tomlkit

    project: dict[str, Any] = {"name": problem.name, "version": "0", "dependencies": list(problem.requirements)}
    if problem.requires_python:
        project["requires-python"] = problem.requires_python
    settings = {key: value for key, value in problem.settings.items() if key not in _OWN_TABLES}
    if problem.overrides:
        settings["override-dependencies"] = [*settings.get("override-dependencies", ()), *problem.overrides]
    return tomlkit.dumps({"project": project, "tool": {"uv": settings}})


def _preferred(pins: Sequence[Pin]) -> str:
    """Earlier pins as uv's output file; without hashes, so that files published since are taken up."""
    return "".join(pin.line() + "\n" for pin in pins)


def _interpreter(folder: Path) -> list[str]:
    """Our own interpreter where it fits the project; else uv looks for one that is installed."""
    with contextlib.suppress(tomllib.TOMLDecodeError, KeyError, TypeError, InvalidSpecifier):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        if platform.python_version() not in SpecifierSet(project.get("requires-python", "")):
            return []
    return ["--python", sys.executable]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nexus-uv-") as name:
        yield Path(name)


@contextlib.contextmanager
def _copy(root: Path) -> Iterator[Path]:
    """A folder that looks like the registry: its project files are copies, the rest are links, so relative sources work."""
    with _folder() as folder:
        for entry in root.iterdir():
            if entry.name in ("pyproject.toml", "uv.lock", "uv.toml"):
                shutil.copyfile(entry, folder / entry.name)
            elif entry.name not in (".venv", ".git"):
                (folder / entry.name).symlink_to(entry.resolve())
        yield folder
