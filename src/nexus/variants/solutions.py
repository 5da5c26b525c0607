"""Solutions to a conflict, each resolved for real: relax a bound, another version or Python, override, move, leave one out.

A solution is a set of edits of the declaration and the questions it leads to; trying it says whether all of them have an
answer and what would change against the committed pins. One that breaks a rule of the variants is named, and not tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

from nexus.kernel.errors import NexusError
from nexus.variants import graph, proof, resolution
from nexus.variants.classes import PackageClass, Standing
from nexus.variants.conflicts import Conflict, OutOfTime, Side, Solver
from nexus.variants.model import WITH_ENGINE, Asked, Declaration, Variant
from nexus.variants.pins import Pin
from nexus.variants.ports import Resolution
from nexus.variants.resolution import Committed

_WORKERS = 2
_MAX_TRIED = 24
_MAX_PYTHONS = 3
_MAX_TOGETHER = 6
NOT_RUN = "it resolves; whether `{}` runs with that was not tried, its own release denies it"


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


def propose(
    declaration: Declaration,
    conflict: Conflict,
    standings: Mapping[str, Standing] | None = None,
    members: frozenset[str] | None = None,
) -> tuple[Solution, ...]:
    """Every solution worth trying for the conflict, small interventions first, once each."""
    whole = declaration.variants[conflict.variant]
    variant = replace(whole, requirements=tuple(one for one in whole.requirements if one.text not in conflict.apart))
    found: list[Solution] = []
    for side in conflict.sides:
        found += _relaxed(declaration, variant, side.asked)
        found += _any_version(declaration, variant, side.asked)
        found += _left_out(declaration, variant, side.asked)
        if members is None or side.asked.name in members:
            found += _moved(declaration, variant, side.asked, (standings or {}).get(side.asked.name))
    found += _newer_python(declaration, variant, conflict)
    found += _built(variant, conflict)
    found += _overridden(variant, conflict)
    once = {(one.questions, one.overrides, one.requires_python, one.untried): one for one in reversed(found)}
    order = list(Kind)
    return tuple(sorted(once.values(), key=lambda solution: (order.index(solution.kind), found.index(solution))))[:_MAX_TRIED]


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


# ── proposals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _relaxed(declaration: Declaration, variant: Variant, asked: Asked) -> Iterator[Solution]:
    """Without its upper bound, and without its lower one. An exact pin is `_any_version`'s to free."""
    bounds = list(SpecifierSet(asked.specifier))
    if asked.url or any(bound.operator in ("==", "===") for bound in bounds):
        return
    for operators, word in ((("<", "<=", "~="), "upper"), ((">", ">=", "~="), "lower")):
        left = [bound for bound in bounds if bound.operator not in operators]
        if "~=" in operators and word == "upper":
            left += [Specifier(f">={bound.version}") for bound in bounds if bound.operator == "~="]
        if len(left) == len(bounds) and set(left) == set(bounds):
            continue
        after = asked.rewritten(specifier=",".join(str(bound) for bound in left))
        yield _replaced(declaration, variant, asked, after, Kind.RELAX, f"drop the {word} bound of `{asked.text}`: `{after}`")


def _any_version(declaration: Declaration, variant: Variant, asked: Asked) -> Iterator[Solution]:
    if asked.specifier:
        after = asked.rewritten(specifier="")
        yield _replaced(declaration, variant, asked, after, Kind.VERSION, f"take another version of `{asked.name}`")


def _replaced(declaration: Declaration, variant: Variant, asked: Asked, after: str, kind: Kind, text: str) -> Solution:
    requirements = tuple(after if one == asked else one.text for one in variant.requirements)
    refused = ""
    if variant.name == "product" and asked.name == declaration.rules.engine:
        refused = f"`product` stays on its pin of `{asked.name}`"
    edit = Edit(variant=variant.name, before=asked.text, after=after, line=asked.line)
    return Solution(
        kind=kind, text=text, edits=(edit,), questions=((variant.name, requirements),), refused=refused, package=asked.name
    )


def _left_out(declaration: Declaration, variant: Variant, asked: Asked) -> Iterator[Solution]:
    refused = ""
    if asked.name == declaration.rules.engine and variant.name in WITH_ENGINE:
        refused = f"`{variant.name}` must contain `{asked.name}`"
    edit = Edit(variant=variant.name, before=asked.text, after="", line=asked.line)
    yield Solution(
        kind=Kind.LEAVE_OUT, text=f"leave `{asked.name}` out of `{variant.name}`", edits=(edit,), refused=refused,
        questions=((variant.name, _without(variant, asked)),),
    )  # fmt: skip


def _moved(declaration: Declaration, variant: Variant, asked: Asked, standing: Standing | None) -> Iterator[Solution]:
    """To each other variant that does not have it; its class decides whether it may stand there, and with which extra."""
    if asked.name == declaration.rules.engine:
        return
    for name, other in declaration.variants.items():
        if name == variant.name or other.of(asked.name):
            continue
        refused, text = _placed(asked, name, standing, declaration.rules.engine)
        gone = Edit(variant=variant.name, before=asked.text, after="", line=asked.line)
        new = Edit(variant=name, before="", after=text, line=other.line)
        kept = tuple(one.text for one in other.requirements)
        yield Solution(
            kind=Kind.MOVE, text=f"move `{asked.name}` from `{variant.name}` to `{name}`", edits=(gone, new), refused=refused,
            questions=((variant.name, _without(variant, asked)), (name, (*kept, text))),
        )  # fmt: skip


def _placed(asked: Asked, name: str, standing: Standing | None, engine: str) -> tuple[str, str]:
    """Why the package may not stand in the variant (or empty), and how it is written there."""
    if standing is None:
        return "", asked.text
    with_engine = name in WITH_ENGINE
    if with_engine and standing.kind is PackageClass.ECOSYSTEM_ONLY:
        return f"`{asked.name}` never asks for `{engine}` (ecosystem-only)", asked.text
    if not with_engine and standing.kind is PackageClass.DEPENDENT:
        return f"`{asked.name}` always needs `{engine}` (engine-dependent)", asked.text
    if standing.kind is not PackageClass.AGNOSTIC:
        return "", asked.text
    extras = (asked.extras | {standing.extras[0]}) if with_engine else asked.extras - set(standing.extras)
    return "", asked.rewritten(extras=extras)


def _newer_python(declaration: Declaration, variant: Variant, conflict: Conflict) -> Iterator[Solution]:
    """Without the Pythons for which no release that fits was made; the registry's lowest one rises for every variant."""
    before = declaration.requires_python
    upper = [str(bound) for bound in SpecifierSet(before) if bound.operator not in (">=", ">", "~=", "==")]
    newer = [text for text in proof.pythons(conflict.proof) if Version(text) > Version(declaration.lowest_python)]
    for lowest in newer[:_MAX_PYTHONS]:
        after = ",".join([f">={lowest}", *sorted(upper)])
        edit = Edit(
            variant="", before=f'requires-python = "{before}"' if before else "", after=f'requires-python = "{after}"',
            line=declaration.python_line,
        )  # fmt: skip
        yield Solution(
            kind=Kind.PYTHON, text=f"require Python {lowest} or later", edits=(edit,), requires_python=after,
            questions=((variant.name, tuple(one.text for one in variant.requirements)),),
        )  # fmt: skip


def _built(variant: Variant, conflict: Conflict) -> Iterator[Solution]:
    """Named and not tried: a build runs the code of whatever release the resolver comes to."""
    if conflict.contested in proof.without_wheels(conflict.proof):
        edit = Edit(variant="", before="", after="build = true")
        yield Solution(
            kind=Kind.BUILD, text=f"allow `{conflict.contested}` to be built from its source archive", edits=(edit,), questions=(),
            untried="a build runs the package's code: try it with `--build`",
        )  # fmt: skip


def _overridden(variant: Variant, conflict: Conflict) -> Iterator[Solution]:
    """As if the owner of the package before the contested one had relaxed its bound: shows what a release of it would mend."""
    requirements = tuple(one.text for one in variant.requirements)
    for side in conflict.sides:
        if not side.chain or len(conflict.sides) == 1:
            continue
        wanted = _others_demand(conflict, side)
        parent = proof.name_of(side.chain[-1].package)
        text = f'ask the owner of `{parent}` to allow `{wanted}` (until then: `[tool.uv] override-dependencies = ["{wanted}"]`)'
        yield Solution(
            kind=Kind.OVERRIDE,
            text=text,
            edits=(),
            questions=((variant.name, requirements),),
            overrides=(wanted,),
            package=conflict.contested,
            caution=NOT_RUN.format(parent),
        )


def _others_demand(conflict: Conflict, side: Side) -> str:
    """What the other sides ask of the contested package."""
    for other in conflict.sides:
        if other is not side:
            demand = (other.chain[-1].needs if other.chain else other.asked.text).partition(";")[0].strip()
            if proof.name_of(demand) == conflict.contested and not any(mark in demand for mark in " |"):
                return demand
    return conflict.contested


def _without(variant: Variant, asked: Asked) -> tuple[str, ...]:
    return tuple(one.text for one in variant.requirements if one != asked)
