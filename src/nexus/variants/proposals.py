"""What may solve a conflict: relax a bound, another version or Python, a build, override, move, leave one out.

Only proposes, from the declaration and the proof; `solutions` tries each for real. Called by `explanation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

from nexus.variants import proof
from nexus.variants.classes import PackageClass, Standing
from nexus.variants.conflicts import Conflict, Side
from nexus.variants.model import WITH_ENGINE, Asked, Declaration, Variant
from nexus.variants.solutions import Edit, Kind, Solution

_NOT_RUN = "it resolves; whether `{}` runs with that was not tried, its own release denies it"
_MAX_PROPOSED = 24
_MAX_PYTHONS = 3


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
    return tuple(sorted(once.values(), key=lambda solution: (order.index(solution.kind), found.index(solution))))[:_MAX_PROPOSED]


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
            caution=_NOT_RUN.format(parent),
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
