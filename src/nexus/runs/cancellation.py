"""Cancelling a run or its tree: stored first, effects second. Called by the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from nexus.kernel.clock import Clock
from nexus.kernel.errors import InvalidInput
from nexus.runs import lifecycle
from nexus.runs.model import Run, Stage
from nexus.runs.ports import Change, RunStore

FOREGROUND_S = 30.0  # unless the caller says another; existing clients give up after 120 s
POLICIES = ("Background", "Foreground", "Orphan")


class Ender(Protocol):
    """Ends what an engine still does for a run that is final in the store."""

    async def end(self, run: Run) -> None: ...

    async def wait_ended(self, runs: list[Run], wait_s: float) -> bool:
        """Whether no process of these runs is left: as soon as that is so, or after *wait_s* seconds."""
        ...


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """What a cancel did: the ``runs`` it cancelled (none when the run had ended and none of its tree was left).

    ``gone`` is False when a Foreground cancel did not see all their processes end in its time; the service goes on ending them.
    """

    runs: list[Run]
    gone: bool = True


class Cancellation:
    """Cancels. What the store says is cancelled stays so, whatever happens to the effects: reconciliation repeats them."""

    def __init__(self, store: RunStore, clock: Clock, ender: Ender, *, on_step: Callable[[str], None] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._ender = ender
        self._on_step = on_step or (lambda _: None)

    async def cancel(
        self, algorithm: str, run_id: str, *, policy: str | None, initiator: str, reason: str, wait_s: float = FOREGROUND_S
    ) -> Cancelled:
        """Cancels a run as *policy* says.

        Background and Foreground take the whole tree, Orphan this run alone; Foreground returns when no process of it is left, or
        after *wait_s* seconds. Raises RunNotFound, InvalidInput for another policy.
        """
        policy = policy or "Background"
        if policy not in POLICIES:
            raise InvalidInput(f"`{policy}` is no cancellation policy", hint=f"one of `{'`, `'.join(POLICIES)}`")
        await self._store.get(algorithm, run_id)
        now = self._clock.now()

        def decide(run: Run) -> Run:
            return lifecycle.cancelled(run, initiator, reason, now, by_parent="" if run.id == run_id else run_id)

        self._on_step("cancel.before-store")
        changes: list[Change]
        if policy == "Orphan":
            changes = [await self._store.change(run_id, decide)]
        else:
            changes = await self._store.change_tree(run_id, decide)
        cancelled = [change.after for change in changes if change.written]
        self._on_step("cancel.after-store")
        for run in cancelled:
            await self._ender.end(run)
        gone = True
        if policy == "Foreground":
            family = [change.after for change in changes if change.after.stage is Stage.CANCELLED]
            gone = await self._ender.wait_ended(family, wait_s)
        self._on_step("cancel.after-effects")
        return Cancelled(runs=cancelled, gone=gone)
