"""Ids of runs grow, whatever the clock does, and go on from the newest one known."""

from __future__ import annotations

import time
from itertools import pairwise
from uuid import UUID

import pytest

from nexus.kernel.ids import IdMaker, is_id


def test_ids_grow_and_are_uuids_of_version_7() -> None:
    """Ten thousand made at once are all different, in order, and what RFC 9562 calls version 7."""
    make = IdMaker()
    ids = [make() for _ in range(10_000)]
    assert all(before < after for before, after in pairwise(ids))
    assert all(is_id(run_id) for run_id in ids)
    assert {(UUID(run_id).version, UUID(run_id).variant) for run_id in ids} == {(7, "specified in RFC 4122")}


@pytest.mark.parametrize("newest", ["ffff0000-0000-7fff-bfff-ffffffffffff", "01998f00-0000-7000-8000-000000000000"])
def test_ids_go_on_from_the_newest_known(newest: str) -> None:
    """A maker that is told of an id makes greater ones, also when that one was made by a clock far ahead."""
    make = IdMaker(after=newest)
    ids = [make() for _ in range(1000)]
    assert newest < ids[0]
    assert all(before < after for before, after in pairwise(ids))


def test_a_clock_that_steps_back_makes_no_smaller_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids made after the wall clock was set back by a day are greater than those before."""
    make = IdMaker()
    before, now = make(), time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 86_400 * 10**9)
    assert before < make()


@pytest.mark.parametrize("text", ["", "x", "01998F00-0000-7000-8000-000000000000", "01998f00-0000-7000-8000-00000000000"])
def test_other_texts_are_no_ids(text: str) -> None:
    """Only the lower-case text form counts; a maker told of anything else begins with the clock."""
    assert not is_id(text)
    assert abs(int(IdMaker(after=text)().replace("-", "")[:12], 16) - time.time() * 1000) < 60_000
