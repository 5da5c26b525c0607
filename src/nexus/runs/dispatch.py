"""Who may start now. Pure, with time as an argument: the place for rates, fairness and priorities.

A *claim* is what one started run holds of the machine. A parent that waits for a started child lends it its own claim, so
that trees cannot block themselves however narrow the machine is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

DEFAULT_CPU_MILLICORES = 100
DEFAULT_MEMORY_BYTES = 64 * 1024 * 1024


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine gives to runs. ``runs`` bounds how many are started at once, ``starts_per_s`` how fast."""

    cpu_millicores: int
    memory_bytes: int
    runs: int
    starts_per_s: float = 50.0
    burst: int = 100


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one run holds, or would hold when started."""

    run_id: str
    parent_id: str | None = None
    cpu_millicores: int = DEFAULT_CPU_MILLICORES
    memory_bytes: int = DEFAULT_MEMORY_BYTES


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A token bucket: ``tokens`` starts were allowed at ``at_s`` (monotonic seconds)."""

    tokens: float
    at_s: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``start``: indexes of candidates. ``pace``: the bucket afterwards. ``wait_s``: until a token comes, if one is missing."""

    start: list[int]
    pace: Pace
    wait_s: float | None = None


def refill(pace: Pace, capacity: Capacity, now_s: float) -> Pace:
    """The bucket at *now_s*. A clock that steps back gives nothing."""
    gained = max(now_s - pace.at_s, 0.0) * capacity.starts_per_s
    return Pace(tokens=min(pace.tokens + gained, float(capacity.burst)), at_s=max(now_s, pace.at_s))


def plan(candidates: Sequence[Claim], claims: Iterable[Claim], capacity: Capacity, pace: Pace, now_s: float) -> Plan:
    """Which candidates start now, in order.

    First come, first served: one that does not fit holds up those behind it, so that large runs are not starved by small
    ones. Only a child of a started run may pass, because its parent's claim may be what it waits for. A run larger than
    the whole machine starts when nothing else runs.
    """
    pace = refill(pace, capacity, now_s)
    held = {claim.run_id: claim for claim in claims}
    start: list[int] = []
    blocked = False
    for index, candidate in enumerate(candidates):
        if blocked and candidate.parent_id not in held:
            continue
        if pace.tokens < 1.0:
            return Plan(start=start, pace=pace, wait_s=(1.0 - pace.tokens) / capacity.starts_per_s)
        if fits(candidate, held, capacity):
            held[candidate.run_id] = candidate
            pace = Pace(tokens=pace.tokens - 1.0, at_s=pace.at_s)
            start.append(index)
        else:
            blocked = True
    return Plan(start=start, pace=pace)


def free_places(claims: Iterable[Claim], capacity: Capacity) -> int:
    """How many more runs could be started at most, whatever they ask for. Never less than 0."""
    held = list(claims)
    lent = {claim.parent_id for claim in held}
    return max(capacity.runs - sum(claim.run_id not in lent for claim in held), 0)


def fits(candidate: Claim, held: dict[str, Claim], capacity: Capacity) -> bool:
    """Whether the machine bears *candidate* beside what is *held*, claims of parents with a started child being lent."""
    lent = {claim.parent_id for claim in held.values()} | {candidate.parent_id}
    counting = [claim for claim in held.values() if claim.run_id not in lent]
    if not counting:
        return True
    return (
        len(counting) < capacity.runs
        and sum(claim.cpu_millicores for claim in counting) + candidate.cpu_millicores <= capacity.cpu_millicores
        and sum(claim.memory_bytes for claim in counting) + candidate.memory_bytes <= capacity.memory_bytes
    )
