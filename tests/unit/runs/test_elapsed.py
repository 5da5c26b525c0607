"""Time since a run's start and end follows no wall clock."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from nexus.runs import lifecycle
from nexus.runs.elapsed import Elapsed
from nexus.runs.model import Stage
from tests.unit.runs.test_lifecycle import NOW, run


class Clock:
    def __init__(self) -> None:
        self.passed_s = 100.0
        self.ahead = timedelta()

    def now(self):
        return NOW + timedelta(seconds=self.passed_s - 100.0) + self.ahead

    def monotonic(self) -> float:
        return self.passed_s


STARTED = lifecycle.started(run(), "uid", 1, NOW)


def test_a_clock_that_is_set_neither_uses_up_nor_gives_back_time() -> None:
    """Seconds since the first start are those that passed, whatever the wall clock says then."""
    clock = Clock()
    elapsed = Elapsed(clock)
    elapsed.observe(STARTED)
    clock.passed_s += 7.0
    for jump in (timedelta(days=1), timedelta(days=-1)):
        clock.ahead = jump
        assert elapsed.since_start_s(STARTED) == 7.0


def test_a_clock_set_during_the_start_uses_up_nothing() -> None:
    """Time counts from when a start was begun, by whatever clock it is recorded; a start that failed is forgotten."""
    clock = Clock()
    elapsed = Elapsed(clock)
    elapsed.starting(run())
    clock.passed_s += 60.0
    assert elapsed.since_start_s(run()) == 0.0
    elapsed.starting(run())
    clock.ahead = timedelta(days=1)
    clock.passed_s += 2.0
    elapsed.observe(STARTED)
    assert elapsed.since_start_s(STARTED) == 2.0


def test_what_an_earlier_life_started_counts_by_its_record() -> None:
    """A run found in the store has used the time since the start that stands there; a start that lies ahead is now."""
    clock = Clock()
    clock.passed_s += 40.0
    assert Elapsed(clock).since_start_s(STARTED) == 40.0
    clock.ahead = -timedelta(days=1)
    assert Elapsed(clock).since_start_s(STARTED) == 0.0


def test_a_run_that_was_not_started_has_used_nothing() -> None:
    """Waiting is not running; an ended run is forgotten."""
    clock = Clock()
    elapsed = Elapsed(clock)
    assert elapsed.since_start_s(run()) == 0.0
    elapsed.observe(STARTED)
    clock.passed_s += 5.0
    ended = lifecycle.ended(STARTED, Stage.FAILED, "why", "", clock.now())
    assert elapsed.since_start_s(ended) == 0.0


def test_time_since_an_end_is_time_that_passed() -> None:
    """A process that lives on after its run is given as much time as it was, and the next one as much again."""
    clock = Clock()
    elapsed = Elapsed(clock)
    ended = replace(STARTED, stage=Stage.COMPLETED, last_modified=NOW)
    assert elapsed.since_end_s(ended) == 0.0
    clock.passed_s += 30.0
    for jump in (timedelta(days=1), timedelta(days=-1)):
        clock.ahead = jump
        assert elapsed.since_end_s(ended) == 30.0
    elapsed.attempt_ended(ended.id)
    assert elapsed.since_end_s(ended) == 0.0
