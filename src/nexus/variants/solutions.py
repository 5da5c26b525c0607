"""Solutions to a conflict, each resolved for real.

A solution is a set of edits of the declaration and the questions it leads to; trying it says whether all of them have an
answer and what would change against the committed pins. One that breaks a rule of the variants is named, and not tried.
Which are worth trying is `proposals`; `explanation` asks both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nexus.kernel.errors import NexusError
from nexus.variants import graph, resolution
from nexus.variants.conflicts import OutOfTime, Solver
from nexus.variants.model import Asked, Declaration, Variant
from nexus.variants.pins import Pin
from nexus.variants.ports import Resolution
from nexus.variants.resolution import Committed

_WORKERS = 2
_MAX_TOGETHER = 6


class Kind(StrEnum):
    """What a solution does, from the smallest intervention to the largest."""

    RELAX = "relax"
    VERSION = "version"
    PYTHON = "python"
    BUILD = "build"
    OVERRIDE = "override"
    MOVE = "move"
    LEAVE_OUT = "leave-out"
    TOGETHER = "together"


class Outcome(StrEnum):
    WORKS = "works"
    FAILS = "fails"
    REFUSED = "refused"  # a rule of the variants forbids it
    UNTRIED = "untried"  # time ran out, the index did not answer, or it would run code


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """One line of the declaration to change. ``before`` empty: the line is new; ``after`` empty: it goes."""

    variant: str  # empty: a setting of all variants
    before: str
    after: str
    line: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """Something to try: in words, as edits, and as requirements by variant."""

    kind: Kind
    text: str
    edits: tuple[Edit, ...]
    questions: tuple[tuple[str, tuple[str, ...]], ...]  # variant, its requirements
    overrides: tuple[str, ...] = ()
    requires_python: str = ""
    refused: str = ""
    untried: str = ""  # why it is named only
    package: str = ""  # whose version the solution lets move
    caution: str = ""  # what is still open when it resolves


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A solution and what came of it."""

    solution: Solution
    outcome: Outcome
    reason: str = ""
    changes: tuple[tuple[str, graph.Change], ...] = ()  # variant, change against the committed pins
    found: str = ""  # the version it came to, for a solution that lets a package move


def try_all(
    declaration: Declaration, solutions: Sequence[Solution], solver: Solver, committed: Committed, *,
    root: str = "", progress: Callable[[str], None] | None = None,
) -> tuple[Tried, ...]:  # fmt: skip
    """What came of each solution: those that work first, then by how little they intervene and change."""

    def one(solution: Solution) -> Tried:
        tried = _try(declaration, solution, solver, committed, root)
        if progress is not None:
            progress(f"{tried.outcome}: {solution.text}")
        return tried

    with ThreadPoolExecutor(_WORKERS) as pool:
        tried = list(pool.map(one, solutions))
    outcomes, kinds = list(Outcome), list(Kind)
    newer = [one for one in tried if one.solution.kind is Kind.PYTHON and one.outcome is Outcome.WORKS]
    tried = [one for one in tried if one not in newer[1:]]  # the lowest that works says it all
    return tuple(sorted(tried, key=lambda item: (outcomes.index(item.outcome), kinds.index(item.solution.kind), len(item.changes))))


def try_together(
    declaration: Declaration, variant: Variant, each: Sequence[Sequence[Tried]], solver: Solver, committed: Committed, *,
    root: str = "",
) -> Tried | None:  # fmt: skip
    """The first combination of one working solution a conflict that makes the whole variant resolve, else what came of the last.

    None when a conflict has no solution that works.
    """
    working = [[one.solution for one in tried if one.outcome is Outcome.WORKS] for tried in each]
    last = None
    for parts in itertools.islice(itertools.product(*working), _MAX_TOGETHER):
        last = _try(declaration, _combined(declaration, variant, parts), solver, committed, root)
        if last.outcome is not Outcome.FAILS:
            break
    return last


def _combined(declaration: Declaration, variant: Variant, parts: Sequence[Solution]) -> Solution:
    """All of these solutions at once: the variant's requirements, and those of every variant they touch, with every edit made."""
    edits = tuple(dict.fromkeys(edit for part in parts for edit in part.edits))
    names = dict.fromkeys([variant.name, *(name for part in parts for name, _ in part.questions)])
    return Solution(
        kind=Kind.TOGETHER, text="; ".join(part.text for part in parts), edits=edits,
        questions=tuple((name, _edited(declaration.variants[name], edits)) for name in names),
        overrides=tuple(dict.fromkeys(text for part in parts for text in part.overrides)),
        requires_python=max((part.requires_python for part in parts if part.requires_python), key=_lowest, default=""),
    )  # fmt: skip


def _lowest(specifier: str) -> Version:
    return max(Version(bound.version) for bound in SpecifierSet(specifier) if bound.operator == ">=")


def _edited(variant: Variant, edits: Iterable[Edit]) -> tuple[str, ...]:
    mine = [edit for edit in edits if edit.variant == variant.name]
    changed = {edit.before: edit.after for edit in mine if edit.before}
    texts = [changed.get(one.text, one.text) for one in variant.requirements]
    return tuple(text for text in [*texts, *(edit.after for edit in mine if not edit.before)] if text)


def _try(declaration: Declaration, solution: Solution, solver: Solver, committed: Committed, root: str) -> Tried:
    if solution.refused or solution.untried:
        outcome = Outcome.REFUSED if solution.refused else Outcome.UNTRIED
        return Tried(solution=solution, outcome=outcome, reason=solution.refused or solution.untried)
    if solution.requires_python:
        declaration = replace(declaration, requires_python=solution.requires_python)
    changes: list[tuple[str, graph.Change]] = []
    moved = ""
    for name, requirements in solution.questions:
        held = committed.of(name)
        question = resolution.question(declaration, requirements, root=root, preferences=held, overrides=solution.overrides)
        try:
            answer = solver.ask(question)
        except OutOfTime:
            return Tried(solution=solution, outcome=Outcome.UNTRIED, reason="the time budget ran out")
        except NexusError as error:
            return Tried(solution=solution, outcome=Outcome.UNTRIED, reason=error.message)
        if not isinstance(answer, Resolution):
            return Tried(solution=solution, outcome=Outcome.FAILS, reason=f"`{name}`: {_first_line(answer.proof)}")
        changes += [(name, change) for change in graph.compare(held, answer.pins)]
        moved = moved or _version(answer.pins, solution.package)
    settled = _settled(solution, moved)
    return Tried(solution=settled, outcome=Outcome.WORKS, reason=solution.caution, changes=tuple(changes), found=moved)


def _settled(solution: Solution, found: str) -> Solution:
    """The edit as it should be written now that the version is known: a freed pin pins it, a freed lower bound starts at it."""
    if not found:
        return solution
    return replace(solution, edits=tuple(_settle(edit, found) if edit.before and edit.after else edit for edit in solution.edits))


def _settle(edit: Edit, found: str) -> Edit:
    before, after = Requirement(edit.before), Requirement(edit.after)
    gone = {bound.operator for bound in before.specifier} - {bound.operator for bound in after.specifier}
    operator = "==" if "==" in gone else ">=" if gone & {">", ">=", "~="} else ""
    if not operator or ">" in str(after.specifier):
        return edit
    asked = Asked(
        text=edit.after, name=after.name, extras=frozenset(after.extras), marker=str(after.marker or ""),
        specifier=str(after.specifier & SpecifierSet(f"{operator}{found}")),
    )  # fmt: skip
    return replace(edit, after=asked.rewritten())


def _version(pins: Iterable[Pin], package: str) -> str:
    return next((pin.shown for pin in pins if pin.name == package), "")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
