"""How long ago runs began and ended, whatever is done to the machine's clock meanwhile: limits count time that passes.

Used by the dispatcher, supervision, and the doors (for a run that submits others). What happened in a former life of the service
is first dated by its record; within an attempt its engine watches the deadline.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime

from nexus.kernel.clock import Clock
from nexus.runs.model import Run


class Elapsed:
    """Remembers by monotonic time when unfinished runs were first started, and when runs ended of which a process lives on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: dict[str, float] = {}
        self._over: dict[str, float] = {}

    def starting(self, run: Run) -> None:
        """The run is about to be started: if this is its first start, its time counts from here."""
        if run.first_started_at is None:
            self._began[run.id] = self._clock.monotonic()

    def observe(self, run: Run) -> None:
        """A run was changed in the store, or found in it."""
        if run.stage.final:
            self._began.pop(run.id, None)
        elif run.first_started_at is not None and run.id not in self._began:
            self._began[run.id] = self._instant(run.first_started_at)

    def since_start_s(self, run: Run) -> float:
        """Seconds since the run's first start; 0 when it was not started, or has ended."""
        if run.first_started_at is None or run.stage.final:
            return 0.0
        began = self._began.get(run.id)
        return self._clock.monotonic() - (self._instant(run.first_started_at) if began is None else began)

    def since_end_s(self, run: Run) -> float:
        """Seconds since a run ended of which an attempt is alive; 0 when it has not ended."""
        if not run.stage.final:
            return 0.0
        if run.id not in self._over:
            self._over[run.id] = self._instant(run.last_modified)
        return self._clock.monotonic() - self._over[run.id]

    def attempt_ended(self, run_id: str) -> None:
        """No process of the run is left for now."""
        self._over.pop(run_id, None)

    def keep(self, alive: Container[str]) -> None:
        """Only of these runs a process may live: of others, no end is remembered any more."""
        self._over = {run_id: at for run_id, at in self._over.items() if run_id in alive}

    def _instant(self, at: datetime) -> float:
        """When *at* was, by monotonic time; what lies ahead is now."""
        return self._clock.monotonic() - max((self._clock.now() - at).total_seconds(), 0.0)
