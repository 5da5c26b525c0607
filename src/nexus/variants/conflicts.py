"""Why a variant does not resolve: the smallest set of its requirements that conflict, and the chain from each to where they meet.

The set is found by deletion: a requirement stays only when the rest resolves without it, each answer asked of the resolver for
real and remembered, all within a time budget. Without it the rest may conflict again: every set that has no part in another is
found. What to do about it is `proposals` and `solutions`; whose change it was is `suspects`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nexus.kernel.errors import ResolverUnavailable
from nexus.variants import graph, proof, resolution
from nexus.variants.model import Asked, Declaration, Variant
from nexus.variants.ports import Problem, Resolution, Resolver, Unsatisfiable
from nexus.variants.resolution import Committed

Answer = Resolution | Unsatisfiable
MAX_CONFLICTS = 5


class OutOfTime(Exception):
    """The budget for questions is used up."""


class Solver:
    """Asks the resolver within a budget of seconds and remembers every answer. Safe to call from several threads."""

    def __init__(self, resolver: Resolver, *, monotonic: Callable[[], float], budget_s: float) -> None:
        self._resolver, self._monotonic = resolver, monotonic
        self._started, self._budget_s = monotonic(), budget_s
        self._answers: dict[str, Answer] = {}
        self._lock = threading.Lock()
        self.questions = 0

    @property
    def spent_s(self) -> float:
        return self._monotonic() - self._started

    def ask(self, problem: Problem) -> Answer:
        """The answer, old or new, within what is left of the budget. Raises OutOfTime and ResolverUnavailable."""
        key = problem.key()
        with self._lock:
            if key in self._answers:
                return self._answers[key]
            left_s = self._budget_s - self.spent_s
            if left_s <= 0:
                raise OutOfTime
            self.questions += 1
        try:
            answer = self._resolver.resolve(problem, limit_s=left_s)
        except ResolverUnavailable:
            if self.spent_s >= self._budget_s:
                raise OutOfTime from None
            raise
        with self._lock:
            self._answers[key] = answer
        return answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Answerable:
    """Who answers for a package, and which models stand on it."""

    owners: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Registry:
    """What is known of the registry that asks: *members* are its packages (None: everything a variant asks for)."""

    declaration: Declaration
    committed: Committed = field(default_factory=Committed)
    root: str = ""
    members: frozenset[str] | None = None
    answerable: Mapping[str, Answerable] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One link of a chain: *package* (with the versions meant) needs *needs*."""

    package: str
    needs: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One requirement of the conflicting set, and how it comes to the contested package."""

    asked: Asked
    chain: tuple[Step, ...] = ()
    owners: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    member: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Conflict:
    """A smallest conflicting set. ``smallest`` is False when time ran out before every requirement was tried."""

    variant: str
    sides: tuple[Side, ...]
    contested: str = ""  # the package on which the sides cannot agree; empty when the proof does not tell
    proof: str = ""
    smallest: bool = True
    others: tuple[str, ...] = ()  # requirements of the variant that have no part in it
    apart: tuple[str, ...] = ()  # those of them that conflict among themselves: they are left out to try its solutions


def find(registry: Registry, variant: Variant, solver: Solver) -> tuple[Conflict, ...]:
    """The conflicts of a variant, none of which has a part in another; empty when it resolves. Raises ResolverUnavailable."""

    def solve(asked: Iterable[Asked]) -> Answer:
        return solver.ask(resolution.question(registry.declaration, [one.text for one in asked], root=registry.root))

    whole = tuple(dict.fromkeys(variant.requirements))
    found: list[Conflict] = []
    rest = whole
    try:
        while len(found) < MAX_CONFLICTS and isinstance(answer := solve(rest), Unsatisfiable):
            core, text, smallest = _smallest(rest, answer, solve)
            contested, chains = _chains(core, text, registry.declaration.name, solve)
            sides = tuple(_side(registry, one, chains.get(one, ())) for one in core)
            others = tuple(one.text for one in whole if one not in core)
            found.append(
                Conflict(variant=variant.name, sides=sides, contested=contested, proof=text, smallest=smallest, others=others)
            )
            rest = tuple(one for one in rest if one not in core)
    except OutOfTime:
        if not found:
            raise ResolverUnavailable(
                f"`{variant.name}` was not resolved within the time for questions", hint="allow more with `--budget`"
            ) from None
    every = [side.asked.text for one in found for side in one.sides]
    return tuple(replace(one, apart=tuple(text for text in one.others if text in every)) for one in found)


def _side(registry: Registry, asked: Asked, chain: tuple[Step, ...]) -> Side:
    who = registry.answerable.get(asked.name, Answerable())
    member = registry.members is None or asked.name in registry.members
    return Side(asked=asked, chain=chain, owners=who.owners, models=who.models, member=member)


def _smallest(
    whole: tuple[Asked, ...], first: Unsatisfiable, solve: Callable[[Iterable[Asked]], Answer]
) -> tuple[tuple[Asked, ...], str, bool]:  # fmt: skip
    """A set of requirements of which none can go, its proof, and whether that was shown for each of them."""
    text, core = first.proof, whole
    named = {proof.name_of(word) for word in first.proof.replace("`", " ").split()}
    likely = tuple(one for one in whole if one.name in named)
    try:
        if likely and len(likely) < len(whole) and isinstance(answer := solve(likely), Unsatisfiable):
            core, text = likely, answer.proof
        for one in core:
            rest = tuple(other for other in core if other is not one)
            if rest and isinstance(answer := solve(rest), Unsatisfiable):
                core, text = rest, answer.proof
    except OutOfTime:
        return core, text, False
    return core, text, True


def _chains(
    core: Sequence[Asked], text: str, root: str, solve: Callable[[Iterable[Asked]], Answer]
) -> tuple[str, dict[Asked, tuple[Step, ...]]]:  # fmt: skip
    """The contested package and the chain of each side to it: from the proof, else from each side resolved alone."""
    edges = {edge.names: edge for edge in proof.edges(text, root)}
    links: dict[str, list[str]] = {}
    for above, below in edges:
        links.setdefault(above, []).append(below)
    points = proof.meeting_points(links, [one.name for one in core]) if len(core) > 1 else _ends(core[0].name, links, text)
    contested = points[0] if points else ""
    found: dict[Asked, tuple[Step, ...]] = {}
    for one in core:
        path = proof.reachable(links, one.name).get(contested, ())
        found[one] = tuple(
            Step(package=edges[pair].package, needs=edges[pair].needs) for pair in itertools.pairwise(path)
        )  # fmt: skip
    if contested and all(found[one] or one.name == contested for one in core):
        return contested, found
    return _alone(core, contested, found, solve)


def _ends(start: str, links: Mapping[str, Sequence[str]], text: str) -> tuple[str, ...]:
    """Where one requirement alone comes to grief: at a package without a wheel, at Python, at one that two of its own exclude."""
    reached = proof.reachable(links, start)
    asked = [below for above in reached for below in links.get(above, ())]
    twice = sorted(name for name in reached if asked.count(name) > 1)
    likely = [*proof.without_wheels(text), "python", *twice, start]
    return tuple(name for name in likely if name in reached)


def _alone(
    core: Sequence[Asked], contested: str, found: dict[Asked, tuple[Step, ...]], solve: Callable[[Iterable[Asked]], Answer]
) -> tuple[str, dict[Asked, tuple[Step, ...]]]:  # fmt: skip
    """Chains from the graph of each side resolved by itself, to *contested* or to the package that two sides pin differently."""
    held = {}
    try:
        for one in core:
            answer = solve([one])
            if isinstance(answer, Resolution):
                held[one] = answer.pins
    except OutOfTime:
        return contested, found
    if not contested:
        versions: dict[str, set[str]] = {}
        for pins in held.values():
            for pin in pins:
                versions.setdefault(pin.name, set()).add(pin.shown)
        differ = sorted(name for name, seen in versions.items() if len(seen) > 1)
        contested = differ[0] if differ else ""
    for one, pins in held.items():
        chain = next(iter(graph.chains(pins, contested).chains), None) if contested else None
        if chain is not None and not found[one]:
            shown = {pin.name: pin.shown for pin in pins}
            found[one] = tuple(
                Step(package=f"{above} {shown.get(above, '')}", needs=f"{below} {shown.get(below, '')}")
                for above, below in itertools.pairwise(chain.packages)
            )
    return contested, found
