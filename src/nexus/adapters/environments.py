"""Local environments: what a template's `local.nexus/*` annotations ask for, built once by content with `uv`, then reused.

The process engine asks before each start; `nexus` commands may ask ahead of time. An environment is a virtual environment in
`environments/<hash>/`, where the hash covers the interpreter and every file that decides what is installed. A `.complete`
file written last makes it usable; one without is built anew. A build lasts only as long as someone waits for it. Following
these annotations is execution of their code: who may state them is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from nexus.adapters import environment_gate
from nexus.adapters.environment_gate import Gate
from nexus.adapters.environment_recipes import OURS, Recipe, WheelMaker, read_recipe, signature
from nexus.adapters.process import watch
from nexus.adapters.uvprogram import find_packaged
from nexus.runs.ports import LaunchFailed

BUILD_LIMIT_S = 900.0
_COMPLETE = ".complete"
_WHEELS = "wheels"
_BUILDER = "NEXUS_BUILDS"  # in the environment of all that builds below a folder: finds what a killed service left building
_GONE_S = 2.0  # how long a killed `uv` is waited for: what hides from us may hold the pipe of its output
_DETAIL_LINES = 30
_DETAIL_CHARS = 4000
_UNREACHABLE = ("error sending request", "Failed to fetch", "dns error", "Connection refused", "timed out", "Connection reset")
_KEPT_PREFIXES = ("UV_", "SSL_CERT_", "XDG_", "LC_")
_KEPT = frozenset({
    "PATH", "HOME", "LANG", "TMPDIR", "USER", "LOGNAME", "NETRC", "CC", "CXX", "LD_LIBRARY_PATH", "PYENV_ROOT",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "REQUESTS_CA_BUNDLE",
})  # fmt: skip


class LocalEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """A finished environment: its folder, and the folder of its programs."""

    folder: Path
    programs: Path


class _Build(msgspec.Struct):
    """A build under way, and how many wait for it."""

    task: asyncio.Task[LocalEnvironment]
    waiting: int = 0


class Environments:
    """Builds and finds environments under *folder*.

    *uv* is the program; None looks for the one that comes with the `uv` package, then on PATH. At most *builds* are built at
    a time. *variables* is the environment builds run in, of which only what `uv` and compilers need is passed on. With a
    *gate*, environments are built as `environment_gate` says: from pins with hashes that it admits, and from nothing else.
    """

    def __init__(
        self,
        folder: Path,
        uv: Path | None = None,
        *,
        builds: int = 2,
        limit_s: float = BUILD_LIMIT_S,
        variables: Mapping[str, str] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._folder = folder.resolve()
        self._uv = uv
        self._limit_s = limit_s
        self._variables = _build_variables(os.environ if variables is None else variables)
        self._slots = asyncio.Semaphore(builds)
        self._wheels = WheelMaker(self._folder / _WHEELS)
        self._building: dict[str, _Build] = {}
        self._tasks: set[asyncio.Task[LocalEnvironment]] = set()  # of builds, those that are being ended included
        self._known: dict[tuple[object, ...], LocalEnvironment] = {}
        self._interpreters: dict[str, str] = {}
        self._clearing: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Has what a killed service left building ended, and what it left half-built removed, before anything is built.

        For the one service that may use the folder now.
        """
        self._clearing = asyncio.ensure_future(asyncio.to_thread(self._clear))

    def _clear(self) -> None:
        watch.end_marked(str(self._folder), _BUILDER)
        for folder in self._folder.glob("*/"):
            if folder.name != _WHEELS and not (folder / _COMPLETE).exists():
                _remove_unheld(folder)

    async def ready(self, local: Mapping[str, str]) -> LocalEnvironment | None:
        """The environment these annotations ask for, built now if need be; None when they ask for none.

        Raises LaunchFailed: permanent, except when the package index did not answer.
        """
        if not {"project", "requirements", "python"} & set(local):
            return None
        mark = await asyncio.to_thread(signature, local)
        known = self._known.get(mark)
        if known is not None and _usable(known.folder):
            return known
        if self._clearing is not None:
            await asyncio.shield(self._clearing)  # or it would take a `uv` of ours for one that a killed service left
        recipe = await asyncio.to_thread(read_recipe, local, self._wheels)
        interpreter = await self._interpreter(recipe.python)
        key = recipe.key(interpreter, self._gate.name if self._gate is not None else "")
        environment = await self._wait(key, recipe, interpreter)
        self._known[mark] = environment
        return environment

    async def stop(self) -> None:
        """Ends builds under way; they are begun afresh when they are wanted."""
        for build in self._building.values():
            build.task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._clearing is not None:
            await self._clearing

    async def _wait(self, key: str, recipe: Recipe, interpreter: str) -> LocalEnvironment:
        """The environment of that key, from the build under way or a new one. The last who gives up waiting ends the build."""
        build = self._building.get(key)
        if build is None:
            task = asyncio.get_running_loop().create_task(self._built(key, recipe, interpreter))
            build = self._building[key] = _Build(task)
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._finished(key, done))
        build.waiting += 1
        try:
            return await asyncio.shield(build.task)
        finally:
            build.waiting -= 1
            if not build.waiting and not build.task.done():
                del self._building[key]  # who asks from now on begins anew
                build.task.cancel()
                await asyncio.wait([build.task])

    def _finished(self, key: str, task: asyncio.Task[LocalEnvironment]) -> None:
        self._tasks.discard(task)
        if (build := self._building.get(key)) is not None and build.task is task:
            del self._building[key]
        if not task.cancelled():
            task.exception()  # looked at: each caller that still waits has it

    # ── building ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _built(self, key: str, recipe: Recipe, interpreter: str) -> LocalEnvironment:
        folder = self._folder / key
        environment = LocalEnvironment(folder=folder, programs=folder / "bin")
        if _usable(folder):
            return environment
        async with self._slots, _lock(self._folder / f"{key}.lock") as held:
            if not _usable(folder):  # another process may have built it meanwhile
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                try:
                    await self._build(folder, recipe, interpreter, held)
                    await asyncio.to_thread(_complete, folder)
                except BaseException:  # a cancellation too: nobody waits any more
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                    raise
        return environment

    async def _build(self, folder: Path, recipe: Recipe, interpreter: str, held: int) -> None:
        base = recipe.base if self._gate is None else environment_gate.work_folder(folder)

        async def run(*arguments: str) -> None:
            await self._run(recipe, held, base, *arguments)

        if self._gate is not None:
            place = environment_gate.Place(folder=folder, interpreter=interpreter, run=run)
            await environment_gate.build(self._gate, recipe, place)
            return
        await run("venv", "--no-project", "--python", interpreter, str(folder))
        install = ("pip", "install", "--python", str(folder / "bin" / "python"))
        ours = [recipe.wheel_requirement] if recipe.wheel is not None else []
        if recipe.lock is not None:
            pinned = folder / "nexus-locked-requirements.txt"
            await run(
                "export", "--frozen", "--no-dev", "--no-emit-project", "--no-emit-package", OURS, "--quiet", "--no-header",
                "--project", str(recipe.lock.parent), "--python", interpreter, "--output-file", str(pinned),
            )  # fmt: skip
            await run(*install, "--requirements", str(pinned))  # uv checks each hash the lock has; Git and paths have none
        if recipe.requirements:
            hashes = ["--require-hashes"] if recipe.hashed else []
            files = [part for path in recipe.requirements for part in ("--requirements", str(path))]
            await run(*install, *hashes, *files, *([] if recipe.hashed else ours))
        if ours and (recipe.hashed or recipe.lock is not None or not recipe.requirements):
            await run(*install, *ours)  # apart from what carries hashes: a file made here has none that was pinned
        if recipe.package is not None:
            await run(*install, "--no-deps", str(recipe.package))

    async def _interpreter(self, wanted: str) -> str:
        """The path of a Python of this machine that satisfies a version such as ``3.12`` or ``>=3.11``."""
        known = self._interpreters.get(wanted)
        if known is not None:
            return known
        code, output = await self._uv_output("python", "find", "--no-project", "--no-python-downloads", "--system", wanted)
        lines = output.strip().splitlines()
        if code or not lines:
            raise LaunchFailed(f"no Python `{wanted}` was found on this machine", _last(output), permanent=_has_answered(code))
        self._interpreters[wanted] = lines[-1].strip()
        return self._interpreters[wanted]

    async def _run(self, recipe: Recipe, held: int, cwd: Path, *arguments: str) -> None:
        code, output = await self._uv_output(*arguments, held=held, cwd=cwd)
        if code is None:
            raise LaunchFailed(
                f"the environment of `{recipe.name}` was not built within {self._limit_s:g} s", _last(output), permanent=False
            )
        if code:
            permanent = _has_answered(code) and not any(sign in output for sign in _UNREACHABLE)
            raise LaunchFailed(f"the environment of `{recipe.name}` could not be built", _last(output), permanent=permanent)

    async def _uv_output(self, *arguments: str, held: int | None = None, cwd: Path | None = None) -> tuple[int | None, str]:
        """Exit code (None: out of time) and combined output of `uv`. It ends with everything it started.

        It has the build's lock too (*held*): should this service be killed, nobody builds there until its `uv` has ended.
        """
        mark = f"build.{uuid.uuid4().hex}"
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                self._program(), *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env={**self._variables, watch.MARKER: mark, _BUILDER: str(self._folder)}, cwd=cwd or "/", start_new_session=True,
                pass_fds=() if held is None else (held,),
            )  # fmt: skip
            output, _ = await asyncio.wait_for(process.communicate(), self._limit_s)
        except TimeoutError:
            return None, ""
        finally:
            if process is None or process.returncode is None:
                await _end(process, mark)
        return process.returncode, output.decode("utf-8", "replace")

    def _program(self) -> str:
        if self._uv is None:
            self._uv = _find_uv(self._variables.get("PATH"))
        return str(self._uv)


@contextlib.asynccontextmanager
async def _lock(path: Path) -> AsyncIterator[int]:
    """Holds a file's lock against other processes."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.1)
        yield fd
    finally:
        os.close(fd)


async def _end(process: asyncio.subprocess.Process | None, mark: str) -> None:
    """Kills a process with its group and all that carries its *mark*: what detached itself would go on writing."""
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await asyncio.to_thread(watch.end_marked, mark)
    if process is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GONE_S)


def _has_answered(code: int | None) -> bool:
    """Whether a program ended by itself: one that was killed, or ran out of time, may fare better another time."""
    return code is not None and code >= 0


def _remove_unheld(folder: Path) -> None:
    """Removes a half-built environment; leaves one that is being built, or that cannot be removed."""
    with contextlib.suppress(OSError), folder.with_name(f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def _complete(folder: Path) -> None:
    """Marks an environment as usable, once all of it is on the disk."""
    os.sync()
    (folder / _COMPLETE).write_bytes(b"")


def _usable(folder: Path) -> bool:
    """Whether an environment was finished and its interpreter is still there."""
    return (folder / _COMPLETE).exists() and (folder / "bin" / "python").exists()


def _find_uv(path: str | None) -> Path:
    found = find_packaged() or shutil.which("uv", path=path)
    if not found:
        raise LaunchFailed("`uv` was not found, which builds local environments", f"install it: {sys.executable} -m pip install uv")
    return Path(found)


def _build_variables(variables: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in variables.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    kept["PATH"] = os.pathsep.join([kept.get("PATH", os.defpath), *_version_manager_folders(kept)])
    return {
        **kept,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
    }


def _version_manager_folders(variables: Mapping[str, str]) -> list[str]:
    """Programs of pyenv's versions: its shims on PATH answer for the selected version only."""
    root = Path(variables.get("PYENV_ROOT") or Path(variables.get("HOME", "/")) / ".pyenv")
    try:
        return sorted((str(folder) for folder in root.glob("versions/3.*/bin")), reverse=True)
    except OSError:  # a root that is not this user's to read
        return []


def _last(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-_DETAIL_LINES:])[-_DETAIL_CHARS:]
