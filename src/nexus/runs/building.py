"""Local environments are built before the runs that need them hold anything of the machine. Used by the dispatcher alone."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec

from nexus.runs.diagnosis import BackOff
from nexus.runs.model import Run
from nexus.runs.ports import Engine, LaunchFailed
from nexus.runs.templates import Template

log = logging.getLogger("nexus.dispatcher")

AGAIN = BackOff(base=timedelta(seconds=2), ceiling=timedelta(minutes=1))  # after what may pass

Local = frozenset[tuple[str, str]]  # a template's local annotations, as a key
Revision = tuple[str, int]  # an algorithm at one revision of its template
Failed = Callable[[Template, LaunchFailed], Awaitable[None]]
Wanted = Callable[[set[Revision]], Awaitable[bool]]


class _Build(msgspec.Struct):
    """A build under way. ``doubted``: a run that waited for it does not any more."""

    task: asyncio.Task[None]
    askers: set[Revision]
    doubted: bool = False


class Builds:
    """Builds each environment once at a time, as long as a run waits for it. ``done`` is called whenever a build has ended, however
    it did.
    """

    def __init__(self, engine: Engine, *, done: Callable[[], None]) -> None:
        self._engine = engine
        self._done = done
        self._prepared: set[Local] = set()
        self._under_way: dict[Local, _Build] = {}

    def ready(self, template: Template, *, failed: Failed) -> bool:
        """Whether what the template needs is there; if not, it is being built now. *failed* hears when it cannot be."""
        if not template.trusted or not template.local:
            return True
        key = frozenset(template.local.items())
        if key in self._prepared:
            return True
        build = self._under_way.get(key)
        if build is None:
            task = asyncio.create_task(self._build(template, key, failed), name=f"build {template.name}")
            build = self._under_way[key] = _Build(task, set())
        build.askers.add((template.name, template.revision))
        return False

    def doubt(self, run: Run) -> bool:
        """Whether a build is under way that *run*, which waits no more, may have been the last to want."""
        doubted = [build for build in self._under_way.values() if (run.algorithm, run.template_revision) in build.askers]
        for build in doubted:
            build.doubted = True
        return bool(doubted)

    async def end_unwanted(self, wanted: Wanted) -> None:
        """Ends doubted builds for whose askers *wanted* says that no run waits."""
        for key, build in [each for each in self._under_way.items() if each[1].doubted]:
            build.doubted = False
            try:
                is_wanted = await wanted(build.askers)
            except BaseException:
                build.doubted = True
                raise
            if not is_wanted and self._under_way.get(key) is build:
                del self._under_way[key]  # the next who wants it has it begun afresh
                build.task.cancel()
                log.info("environment.given-up", extra={"fields": {"algorithms": sorted({name for name, _ in build.askers})}})

    async def stop(self) -> None:
        """Ends builds under way; they are begun anew when they are wanted."""
        tasks = [build.task for build in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _build(self, template: Template, key: Local, failed: Failed) -> None:
        try:
            await self._until_built(template, key)
        except LaunchFailed as failure:
            fields = {"algorithm": template.name, "cause": failure.cause, "why": last_line(failure.details)}
            log.error("environment.failed", extra={"fields": fields})
            await failed(template, failure)
        finally:
            build = self._under_way.get(key)
            if build is not None and build.task is asyncio.current_task():
                del self._under_way[key]
            self._done()

    async def _until_built(self, template: Template, key: Local) -> None:
        """Returns when it is built. What may pass (an index that does not answer) is tried again, after ever longer pauses.

        Raises LaunchFailed when another try would fail the same way.
        """
        for tries in itertools.count(1):
            try:
                await self._engine.prepare(template.local)
            except LaunchFailed as failure:
                if failure.permanent:
                    raise
                cause, why = failure.cause, last_line(failure.details)
            except Exception:  # a role's loop goes on
                log.exception("environment.crashed", extra={"fields": {"algorithm": template.name}})
                cause, why = "an error nobody foresaw", ""
            else:
                self._prepared.add(key)
                return
            pause_s = AGAIN.pause(tries).total_seconds()
            fields = {"algorithm": template.name, "cause": cause, "why": why, "again_in_s": pause_s}
            log.warning("environment.put-off", extra={"fields": fields})
            await asyncio.sleep(pause_s)


def last_line(text: str) -> str:
    """The last line of what a program said, for a log; the hint below it says what to do, not why."""
    told = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("hint:")]
    return told[-1][:300] if told else ""
