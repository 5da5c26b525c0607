"""Who may start: capacity, pace, order, trees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus.runs.dispatch import Capacity, Claim, Pace, plan, refill

MACHINE = Capacity(cpu_millicores=2000, memory_bytes=1000, runs=4, starts_per_s=10.0, burst=5)
FULL = Pace(tokens=5.0, at_s=0.0)


def claim(name: str, cpu: int = 100, memory: int = 10, parent: str | None = None) -> Claim:
    return Claim(run_id=name, parent_id=parent, cpu_millicores=cpu, memory_bytes=memory)


def test_starts_in_order_until_the_machine_is_full() -> None:
    """Candidates start first come, first served, as long as processor, memory and count allow."""
    made = plan([claim("a", 1500), claim("b", 600), claim("c", 100)], [], MACHINE, FULL, 0.0)
    assert made.start == [0]  # b does not fit, c may not pass it


def test_a_large_run_is_not_starved_by_small_ones() -> None:
    """What stands behind a run that does not fit waits with it."""
    made = plan([claim("big", 1900), claim("small")], [claim("held", 200)], MACHINE, FULL, 0.0)
    assert made.start == []


def test_a_run_larger_than_the_machine_runs_alone() -> None:
    """It starts when nothing else runs, rather than never."""
    assert plan([claim("huge", 64_000, 10**12)], [], MACHINE, FULL, 0.0).start == [0]
    assert plan([claim("huge", 64_000)], [claim("other")], MACHINE, FULL, 0.0).start == []


def test_a_waiting_parent_lends_its_claim_to_a_child() -> None:
    """Parents that fill the machine cannot block their own children."""
    parents = [claim(name, 500) for name in "abcd"]
    children = [claim("root", 500), claim("a1", 500, parent="a"), claim("b1", 500, parent="b"), claim("a2", 500, parent="a")]
    made = plan(children, parents, MACHINE, FULL, 0.0)
    assert made.start == [1, 2]  # one child on each lent claim; a second child of `a` has nothing to stand on


def test_nested_trees_make_progress_on_one_slot() -> None:
    """Grandchildren start too: the whole chain above them is lent."""
    narrow = Capacity(cpu_millicores=100, memory_bytes=100, runs=1)
    held = [claim("a"), claim("b", parent="a")]
    assert plan([claim("c", parent="b")], held, narrow, FULL, 0.0).start == [0]


def test_the_pace_bounds_starts_and_says_when_to_come_back() -> None:
    """Five tokens start five runs; the sixth waits a tenth of a second at ten a second."""
    wide = Capacity(cpu_millicores=10**6, memory_bytes=10**9, runs=100, starts_per_s=10.0, burst=5)
    made = plan([claim(str(index)) for index in range(8)], [], wide, FULL, 0.0)
    assert made.start == [0, 1, 2, 3, 4]
    assert made.wait_s == 0.1


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6, allow_nan=False), max_size=20))
def test_the_bucket_never_overflows_and_ignores_clock_jumps(moments: list[float]) -> None:
    """Whatever the clock does, the bucket holds between nothing and its burst and never gains from a step back."""
    pace = FULL
    for moment in moments:
        after = refill(pace, MACHINE, moment)
        assert pace.tokens <= after.tokens <= MACHINE.burst
        assert after.at_s >= pace.at_s
        pace = after


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 1500)), max_size=12),
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 1500)), max_size=4),
)
def test_roots_never_overcommit_the_machine(waiting: list[tuple[int, int]], running: list[tuple[int, int]]) -> None:
    """Without trees, what was started fits beside what runs, unless a single run is larger than the machine by itself."""
    held = [claim(f"r{index}", cpu, memory) for index, (cpu, memory) in enumerate(running)]
    candidates = [claim(f"w{index}", cpu, memory) for index, (cpu, memory) in enumerate(waiting)]
    made = plan(candidates, held, MACHINE, Pace(tokens=100.0, at_s=0.0), 0.0)
    together = held + [candidates[index] for index in made.start]
    if made.start and len(together) > 1:
        assert sum(each.cpu_millicores for each in together) <= MACHINE.cpu_millicores
        assert sum(each.memory_bytes for each in together) <= MACHINE.memory_bytes
        assert len(together) <= MACHINE.runs
