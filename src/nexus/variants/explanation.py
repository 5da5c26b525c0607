"""The whole answer to "why does this variant not resolve": conflicts, tried solutions, suspects — as text and as plain data.

:func:`explain` is the one call that the CLI, the campaign of checks and the failure reports use. The picture is `picture`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nexus.kernel.clock import rfc3339
from nexus.kernel.errors import MetadataUnavailable, ResolverUnavailable
from nexus.variants import checks, conflicts, proof, proposals, resolution, solutions, suspects
from nexus.variants.classes import Standing
from nexus.variants.conflicts import Conflict, OutOfTime, Registry, Side, Solver
from nexus.variants.model import FILE
from nexus.variants.pins import Pin
from nexus.variants.ports import History, PackageMetadata, Resolution
from nexus.variants.solutions import Outcome, Tried
from nexus.variants.suspects import Suspect

_PROOF_LINES = 40
_SHOWN = 6  # changes of one solution in the text; the data has them all


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A conflict with everything that was found out about it: number ``number`` of the ``of`` that the variant has.

    ``together`` is one solution of each conflict, tried at once on the whole variant; None where there is one conflict only.
    """

    conflict: Conflict
    tried: tuple[Tried, ...]
    suspect: Suspect
    questions: int
    seconds: float
    number: int = 1
    of: int = 1
    together: Tried | None = None


def explain(
    registry: Registry,
    variant: str,
    solver: Solver,
    history: History,
    metadata: PackageMetadata,
    progress: Callable[[str], None] | None = None,
) -> tuple[Explanation, ...]:
    """An explanation for each conflict of a variant; empty when it resolves. Raises ResolverUnavailable."""
    declaration = registry.declaration
    tell = progress or (lambda _: None)
    held = declaration.variants[variant]
    found = conflicts.find(registry, held, solver)
    parts: list[tuple[tuple[Tried, ...], Suspect]] = []
    for conflict in found:
        tell(f"{len(conflict.sides)} of {len(held.requirements)} requirements conflict")
        standings = _standings(registry, conflict, solver, metadata)
        proposed = proposals.propose(declaration, conflict, standings, registry.members)
        tried = solutions.try_all(declaration, proposed, solver, registry.committed, root=registry.root, progress=tell)
        parts.append((tried, suspects.find(registry, conflict, history, solver, metadata)))
    together = None
    if len(found) > 1:
        each = [tried for tried, _ in parts]
        together = solutions.try_together(declaration, held, each, solver, registry.committed, root=registry.root)
    return tuple(
        Explanation(
            conflict=conflict, tried=tried, suspect=suspect, questions=solver.questions, seconds=solver.spent_s,
            number=number, of=len(found), together=together,
        )
        for number, (conflict, (tried, suspect)) in enumerate(zip(found, parts, strict=True), start=1)
    )  # fmt: skip


def _standings(registry: Registry, conflict: Conflict, solver: Solver, metadata: PackageMetadata) -> dict[str, Standing]:
    """The classes of the members in conflict; one that cannot be read leaves its moves to the resolver."""
    found = {}
    for side in conflict.sides:
        pin = next((pin for pin in registry.committed.of(conflict.variant) if pin.name == side.asked.name), None)
        with contextlib.suppress(MetadataUnavailable, ResolverUnavailable, OutOfTime):
            if pin is None and side.asked.name in (registry.declaration.uv.get("sources") or {}):
                pin = _alone(registry, side, solver)  # its commit is known when it was resolved once
            found[side.asked.name] = checks.standing_of(registry.declaration, side.asked, pin, metadata)
    return found


def _alone(registry: Registry, side: Side, solver: Solver) -> Pin | None:
    """What a requirement is pinned to when nothing else is asked for."""
    answer = solver.ask(resolution.question(registry.declaration, [side.asked.text], root=registry.root))
    held = answer.pins if isinstance(answer, Resolution) else ()
    return next((pin for pin in held if pin.name == side.asked.name), None)


# ── as text ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def text(explanation: Explanation) -> str:
    """The explanation for people, in the order they ask: what, who, what to do, since when."""
    conflict = explanation.conflict
    count = len(conflict.sides) + len(conflict.others)
    over = f" over `{conflict.contested}`" if conflict.contested and len(conflict.sides) > 1 else ""
    verb = "conflict" if len(conflict.sides) > 1 else "cannot be met"
    which = f" (conflict {explanation.number} of {explanation.of})" if explanation.of > 1 else ""
    lines = [f"`{conflict.variant}` does not resolve: {len(conflict.sides)} of its {count} requirements {verb}{over}{which}", ""]
    for side in conflict.sides:
        lines += _side(side)
    if not conflict.smallest:
        lines.append("  (time ran out: the set may not be the smallest)")
    lines += ["", "the resolver's proof", *_proof(conflict.proof), ""]
    without = f", without what conflicts elsewhere ({', '.join(f'`{text}`' for text in conflict.apart)})" if conflict.apart else ""
    lines += [f"tried solutions{without}", *(line for tried in explanation.tried for line in _tried(tried))]
    outcomes = {tried.outcome for tried in explanation.tried}
    if Outcome.WORKS not in outcomes:
        open_ = "not every one could be tried: see the reasons above" if Outcome.UNTRIED in outcomes else "none of them works"
        lines.append(f"  {open_}; bring the owners above together")
    lines += ["", *_suspect(explanation.suspect), ""]
    if explanation.number == explanation.of:
        if explanation.together is not None:
            lines += ["one solution of each conflict, together", *_tried(explanation.together), ""]
        lines.append(f"{explanation.questions} questions to the resolver in {explanation.seconds:.1f} s")
    return "\n".join(lines) + "\n"


def _proof(text: str) -> list[str]:
    """The proof with its own indentation: lists of versions stand below what they belong to. A long one without its middle."""
    first, *rest = text.strip().splitlines() or [""]
    margin = min((len(line) - len(line.lstrip()) for line in rest if line[:1] == " "), default=0)
    lines = [first, *(line[margin:] if line[:1] == " " else line for line in rest)]
    shown = [f"  {line.rstrip()}" for line in lines if line.strip()]
    if len(shown) <= _PROOF_LINES:
        return shown
    half = _PROOF_LINES // 2
    return [*shown[:half], f"  … {len(shown) - _PROOF_LINES} lines more (`-o json` has them all)", *shown[-half:]]


def _side(side: Side) -> list[str]:
    who = "no owner is named" if side.member else "not a Nexus package"
    if side.owners:
        who = f"owners {', '.join(f'@{owner}' for owner in side.owners)}"
    lines = [f"  {side.asked.text}    {FILE}:{side.asked.line}, {who}"]
    lines += [f"    {proof.shown(step.package)} needs {proof.shown(step.needs)}" for step in side.chain]
    if side.models:
        lines.append(f"    models hit: {', '.join(side.models)}")
    return lines


def _tried(tried: Tried) -> list[str]:
    found = f" → {tried.found}" if tried.found else ""
    lines = [f"  {tried.outcome:8} {tried.solution.text}{found}"]
    if tried.reason:
        lines.append(f"           {tried.reason}")
    if tried.outcome is Outcome.WORKS:
        lines += [f"           {_edit(edit)}" for edit in tried.solution.edits]
        lines.append(f"           {_changes(tried)}")
    return lines


def _changes(tried: Tried) -> str:
    """What the solution moves of the committed pins; what is pinned for the first time is only counted."""
    moved = [change for _, change in tried.changes if change.before]
    new = len(tried.changes) - len(moved)
    shown = [f"{change.package} {change.before} → {change.after or '–'}" for change in moved[:_SHOWN]]
    shown += [f"… {len(moved) - _SHOWN} more"] if len(moved) > _SHOWN else []
    shown += [f"{new} new {'pin' if new == 1 else 'pins'}"] if new else []
    return f"changes {', '.join(shown)}" if shown else "changes nothing else"


def _edit(edit: solutions.Edit) -> str:
    place = f"{FILE}:{edit.line}:"
    if not edit.variant:
        return (
            f"{place} `{edit.before}` becomes `{edit.after}`" if edit.before else f"{FILE}: write `{edit.after}` in `[tool.nexus]`"
        )
    if not edit.after:
        return f"{place} remove `{edit.before}`"
    return f"{place} `{edit.before}` becomes `{edit.after}`" if edit.before else f"{place} add `{edit.after}` to `{edit.variant}`"


def _suspect(suspect: Suspect) -> list[str]:
    if suspect.kind == "unknown":
        return [f"suspect: unknown ({suspect.reason})"]
    owners = f" (owners {', '.join(f'@{owner}' for owner in suspect.owners)})" if suspect.owners else ""
    if suspect.kind == "index":
        return [f"suspect: {'; '.join(suspect.changes)}"]
    if suspect.commit is None:
        return [f"suspect: your uncommitted change: {'; '.join(suspect.changes)}{owners}"]
    commit, what = suspect.commit, "; ".join(suspect.changes)
    return [f"suspect: {commit.id[:12]} by {commit.author} on {commit.at:%Y-%m-%d}, “{commit.subject}”: {what}{owners}"]


# ── as data ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def data(explanation: Explanation) -> dict[str, Any]:
    """The explanation as plain values, for JSON and for failure reports."""
    conflict = explanation.conflict
    return {
        "variant": conflict.variant,
        "resolves": False,
        "conflict": explanation.number,
        "conflicts": explanation.of,
        "contested": conflict.contested or None,
        "smallest": conflict.smallest,
        "proof": conflict.proof,
        "sides": [_side_data(side) for side in conflict.sides],
        "others": list(conflict.others),
        "apart": list(conflict.apart),
        "solutions": [_tried_data(tried) for tried in explanation.tried],
        "together": _tried_data(explanation.together) if explanation.together is not None else None,
        "suspect": _suspect_data(explanation.suspect),
        "questions": explanation.questions,
        "seconds": round(explanation.seconds, 3),
    }


def _side_data(side: Side) -> dict[str, Any]:
    return {
        "requirement": side.asked.text,
        "package": side.asked.name,
        "file": FILE,
        "line": side.asked.line,
        "member": side.member,
        "owners": list(side.owners),
        "models": list(side.models),
        "chain": [{"package": step.package, "needs": step.needs} for step in side.chain],
    }


def _tried_data(tried: Tried) -> dict[str, Any]:
    solution = tried.solution
    return {
        "kind": str(solution.kind),
        "outcome": str(tried.outcome),
        "text": solution.text,
        "reason": tried.reason or None,
        "found": tried.found or None,
        "overrides": list(solution.overrides),
        "requires_python": solution.requires_python or None,
        "edits": [
            {"file": FILE, "line": edit.line, "variant": edit.variant, "before": edit.before, "after": edit.after}
            for edit in solution.edits
        ],
        "changes": [
            {"variant": name, "package": change.package, "change": change.kind, "before": change.before, "after": change.after}
            for name, change in tried.changes
        ],
    }


def _suspect_data(suspect: Suspect) -> dict[str, Any]:
    commit = suspect.commit
    made = {"id": commit.id, "author": commit.author, "at": rfc3339(commit.at), "subject": commit.subject} if commit else None
    return {
        "kind": suspect.kind,
        "reason": suspect.reason or None,
        "changes": list(suspect.changes),
        "packages": list(suspect.packages),
        "owners": list(suspect.owners),
        "commit": made,
    }
