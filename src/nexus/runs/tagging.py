"""Changing a run's tag after the fact. Called by the API; the newer reference has the route, its client does not call it yet."""

from __future__ import annotations

from msgspec.structs import replace

from nexus.kernel.clock import Clock
from nexus.runs import lifecycle
from nexus.runs.model import Run
from nexus.runs.ports import RunStore


class Tagging:
    """Retags. A tag is a label, not a state: runs that have ended take a new one too."""

    def __init__(self, store: RunStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def retag(self, algorithm: str, run_id: str, tag: str) -> Run:
        """The run with its new tag. Raises RunNotFound."""
        await self._store.get(algorithm, run_id)
        now = self._clock.now()

        def decide(run: Run) -> Run:
            if run.tag == tag:
                return run
            if run.stage.final:  # its last_modified is when it ended: how long its logs are kept and its process may stay
                return replace(run, revision=run.revision + 1, tag=tag)
            return lifecycle.touch(run, now, tag=tag)

        return (await self._store.change(run_id, decide)).after
