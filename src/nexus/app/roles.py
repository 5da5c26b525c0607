"""The life of a service: in which order its parts start, what it does on a signal, and in which order they stop.

Start: folder locked → store → algorithms → engine → doors bound (not ready) → adoption → dispatcher and supervisor → ready.
Stop: not ready → doors drain → dispatcher carries through what it began → supervisor handles the ends it heard of → engine lets
go (algorithms go on, and are adopted by the next start) → store closes → folder is released.

A signal during the stop ends the process at once; nothing acknowledged is lost by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from nexus.adapters import localpaths
from nexus.adapters.folder import DataFolder
from nexus.api.access import check_bind
from nexus.app import doors, wiring
from nexus.app.settings import Settings, misspelt
from nexus.kernel.documents import Finding
from nexus.kernel.errors import InvalidTemplate, NexusError
from nexus.runs.algorithms import TEMPLATE, Algorithms
from nexus.runs.fields import BAD_ANNOTATION
from nexus.runs.templates import LOCAL_PREFIX, Manifest, read_manifests
from nexus.sdk import manifests as manifest_files

log = logging.getLogger("nexus.service")


def serve(settings: Settings, *, on_ready: Callable[[str], None], on_step: wiring.OnStep | None = None) -> int:
    """Runs a service until SIGTERM, SIGINT or SIGHUP and returns the exit code. *on_ready* gets the readiness line."""
    import uvloop

    for sentence in misspelt():
        log.warning(sentence)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, on_ready, on_step))


async def _serve(settings: Settings, on_ready: Callable[[str], None], on_step: wiring.OnStep | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _told_to_stop, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a terminal that is closed stops it too, unless under `nohup`
        loop.add_signal_handler(signal.SIGHUP, stop.set)  # both the shell and the system may say so: that is not twice
    folder = wiring.data_folder(settings)
    began = time.monotonic()
    with folder:
        service = await start(settings, folder, on_step)
        try:
            on_ready(service.readiness())
            log.info("service.ready", extra={"fields": {"address": service.address, "after_s": round(time.monotonic() - began, 3)}})
            await service.until_stopped(stop)
        finally:
            await service.stop()
            if loop.remove_signal_handler(signal.SIGHUP):  # else a late one would end what has stopped as a failure
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
    going_on = len(service.going_on())
    log.info("service.stopped", extra={"fields": {"runs_going_on": going_on, "adopted_by": "the next start"} if going_on else {}})
    return 0


def _told_to_stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(1)  # told twice: everything acknowledged is on disk
    stop.set()


class Service:
    """A started service."""

    def __init__(self, parts: wiring.Parts, house: doors.Doors, warnings: list[Finding]) -> None:
        self._parts = parts
        self._doors = house
        self._warnings = warnings
        self._dispatching: asyncio.Task[None] | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return self._doors.scheduler_url

    def readiness(self) -> str:
        """The one line that says the service is ready, and where."""
        parts = self._parts
        receiver = "" if self._doors.receiver_url == self.address else f", receiver {self._doors.receiver_url}"
        known, waiting = len(parts.algorithms.templates()), parts.dispatcher.backlog()
        return (
            f"nexus ready on {self.address}{receiver} (algorithms: {known}, runs waiting: {waiting}, data in {parts.folder.path})"
        )

    async def begin(self) -> None:
        """Adopts what runs, then starts the loops and opens the doors to new work."""
        parts = self._parts
        started = await parts.supervision.adopt()
        await parts.dispatcher.recover(started)
        self._dispatching = asyncio.create_task(parts.dispatcher.run(), name="dispatcher")
        self._supervising = asyncio.create_task(parts.supervision.run(), name="supervisor")
        self._tidying = asyncio.create_task(self._tidy(parts.ids()), name="tidying")
        self._doors.ready()
        for finding in self._warnings:
            log.warning(finding.text())
        _calm_the_collector()

    def going_on(self) -> list[tuple[str, int]]:
        """Runs and attempts that go on without the service."""
        return self._parts.dispatcher.held()

    async def _tidy(self, before: str) -> None:
        try:
            removed = await self._parts.submission.tidy(before)
        except NexusError as error:  # the next start tries again
            log.warning("payloads.not-tidied", extra={"fields": {"code": error.code, "error": error.message}})
            return
        if removed:
            log.info("payloads.tidied", extra={"fields": {"removed": removed}})

    async def until_stopped(self, stop: asyncio.Event) -> None:
        """Returns when told to stop. Raises what ended a loop: without one of them the service would be a shell."""
        assert self._dispatching is not None
        assert self._supervising is not None
        told = asyncio.create_task(stop.wait())
        loops = {self._dispatching, self._supervising}
        done, _ = await asyncio.wait({told, *loops}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        for loop in done & loops:
            loop.result()
            raise RuntimeError(f"the {loop.get_name()} ended by itself")

    async def stop(self) -> None:
        """Stops the parts in order; each is tried although another failed."""
        parts = self._parts
        async with contextlib.AsyncExitStack() as order:  # left in reverse
            order.push_async_callback(parts.store.close)
            order.push_async_callback(parts.engine.stop)
            order.push_async_callback(parts.supervision.drain)
            order.push_async_callback(_end, self._supervising)
            order.push_async_callback(_end, self._tidying)
            order.push_async_callback(_end, self._dispatching)
            order.push_async_callback(self._doors.close, parts.settings.drain_timeout)


async def start(settings: Settings, folder: DataFolder, on_step: wiring.OnStep | None = None) -> Service:
    """A service with its doors open. Raises a NexusError, with everything closed again, when it cannot be."""
    manifests, warnings = await asyncio.to_thread(manifests_in, settings.algorithms)
    parts = await wiring.build(settings, folder, on_step)
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(parts.store.close)
        has_token = bool(await parts.store.tokens())
        check_bind(settings.host, tls=bool(settings.tls_cert), behind_proxy=settings.behind_proxy, has_token=has_token)
        await parts.algorithms.load()
        await _register(parts, manifests)
        warnings += await asyncio.to_thread(_lost_paths, parts.algorithms, {manifest.name for manifest in manifests})
        warnings += parts.algorithms.lost_workgroups()
        undo.push_async_callback(parts.engine.stop)
        await parts.engine.start(parts.supervision.heard)
        house = doors.Doors(parts)
        undo.push_async_callback(house.close, settings.drain_timeout)
        await house.open()
        service = Service(parts, house, warnings)
        await service.begin()
        undo.pop_all()
    return service


async def _register(parts: wiring.Parts, manifests: list[Manifest]) -> None:
    """Registers what the service was started with; it wins over what was applied before, and says so."""
    algorithms = parts.algorithms
    before = {(each.kind, each.name): algorithms.stored(each.kind, each.name) for each in manifests}
    files = {(each.kind, each.name): each.source for each in manifests}
    for applied in await algorithms.apply(manifests, trusted=True):
        was = before[applied.kind, applied.name]
        if was is None or applied.change != "updated":
            continue
        source = files[applied.kind, applied.name]
        fields = {"kind": applied.kind, "name": applied.name, "revision": applied.revision, "from": source}
        if was.source == source:
            log.info("algorithms.updated", extra={"fields": fields})
        else:
            log.warning("algorithms.overridden", extra={"fields": {**fields, "instead_of": was.source or "an apply"}})


def _lost_paths(algorithms: Algorithms, judged: set[str]) -> list[Finding]:
    """A warning for each path that is wrong by now of a template that was applied to an earlier life, none of *judged*."""
    found = []
    for template in algorithms.templates():
        if not template.trusted or template.name in judged:
            continue
        stored = algorithms.stored(TEMPLATE, template.name)
        for key, value in template.local.items():
            if (fault := localpaths.look(key, value)) is not None:
                message = f"`{template.name}`: `{LOCAL_PREFIX}{key}` {fault.message}"
                source = stored.source if stored is not None else ""
                found.append(Finding(code=BAD_ANNOTATION, file=source, message=message, hint=fault.hint, severity="warning"))
    return found


def manifests_in(paths: tuple[str, ...]) -> tuple[list[Manifest], list[Finding]]:
    """Every manifest of the files and folders (read whole, sub-folders included), and the warnings.

    Raises InvalidTemplate with all findings of all files.
    """
    manifests: list[Manifest] = []
    findings: list[Finding] = []
    for path in paths:
        for file in _files(Path(path)):
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                findings.append(Finding(code="NX-T00", file=str(file), message=f"the file cannot be read: {error}"))
                continue
            found, told = read_manifests(text, str(file), base=str(file.resolve().parent), look=localpaths.look)
            manifests += found
            findings += told
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise InvalidTemplate("\n".join(["the manifests have findings:", *(finding.text() for finding in errors)]))
    return manifests, findings


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return manifest_files.in_folder(path)
    if not path.exists():
        raise InvalidTemplate(f"`{path}` does not exist", hint="`--algorithms` takes a manifest file or a folder of them")
    return [path]


def _calm_the_collector() -> None:
    """What lives from the start on is never looked at again, and young objects are looked at less often: the slowest accepts
    take a quarter of the time (``stack.md`` 0)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
