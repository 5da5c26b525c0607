"""The waiting runs that are held in memory, in the order in which they are to be started. Used by the dispatcher alone.

Three places: the *front* (retries that are due, and children of started runs, which the store alone could keep behind so many
others that their parents wait for ever), the *main* place in order of arrival, and dry runs, which hold nothing of the machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from nexus.runs.model import Run

_DRY_LIMIT = 4_096


class Window:
    """At most ``limit`` runs in the main place; the front is bounded by what was started and by the size of trees."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._main: dict[str, Run] = {}
        self._dry: dict[str, Run] = {}
        self._front: dict[str, dict[str, Run]] = {}  # by parent: each started parent must get a child started
        self._parents: dict[str, str] = {}  # of the runs in the front

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._main or run_id in self._parents or run_id in self._dry

    @property
    def room(self) -> int:
        """How many more runs the main place takes."""
        return max(self.limit - len(self._main), 0)

    @property
    def is_low(self) -> bool:
        """Whether it is time to fill it again: half of the main place is free, and most of the other."""
        return self.room >= self.limit // 2 and len(self._dry) <= _DRY_LIMIT // 4

    @property
    def has_dry(self) -> bool:
        return bool(self._dry)

    def ids(self) -> list[str]:
        return [*self._parents, *self._main, *self._dry]

    def runs(self) -> list[Run]:
        """All but the dry ones, the front first."""
        return [*self.front(), *self._main.values()]

    def is_front(self, run_id: str) -> bool:
        return run_id in self._parents

    def front(self) -> Iterator[Run]:
        """What stands before the main place."""
        return itertools.chain.from_iterable(group.values() for group in self._front.values())

    def add(self, run: Run) -> bool:
        """Whether there was room for a run newer than the others."""
        place, limit = (self._dry, _DRY_LIMIT) if run.dry_run else (self._main, self.limit)
        if len(place) >= limit:
            return False
        place[run.id] = run
        return True

    def add_front(self, run: Run) -> None:
        """Has a run stand before the main place."""
        self._main.pop(run.id, None)
        parent_id = run.parent.run_id if run.parent is not None else ""
        self._front.setdefault(parent_id, {})[run.id] = run
        self._parents[run.id] = parent_id

    def merge(self, found: Iterable[Run]) -> None:
        """Takes in runs of any age that are not here yet; ids are in order of arrival."""
        for run in found:
            (self._dry if run.dry_run else self._main)[run.id] = run
        self._main = dict(sorted(self._main.items()))

    def discard(self, run_id: str) -> None:
        self._main.pop(run_id, None)
        self._dry.pop(run_id, None)
        parent_id = self._parents.pop(run_id, None)
        if parent_id is not None:
            group = self._front[parent_id]
            del group[run_id]
            if not group:
                del self._front[parent_id]

    def take_dry(self, limit: int) -> list[Run]:
        """Up to *limit* dry runs, removed."""
        runs = list(itertools.islice(self._dry.values(), limit))
        for run in runs:
            del self._dry[run.id]
        return runs

    def candidates(self, of_each_parent: int) -> list[Run]:
        """What may be planned for now, in order: a few of each group of the front, then the main place."""
        groups = (itertools.islice(group.values(), of_each_parent) for group in self._front.values())
        return [*itertools.chain.from_iterable(groups), *self._main.values()]
