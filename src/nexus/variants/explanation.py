"""The whole answer to "why does this variant not resolve": conflict, tried solutions, suspect — as text and as plain data.

:func:`explain` is the one call that the CLI, the campaign of checks and the failure reports use. The picture is `picture`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nexus.kernel.clock import rfc3339
from nexus.kernel.errors import MetadataUnavailable
from nexus.variants import checks, conflicts, solutions, suspects
from nexus.variants.classes import Standing
from nexus.variants.conflicts import Conflict, Registry, Side, Solver
from nexus.variants.model import FILE
from nexus.variants.ports import History, PackageMetadata
from nexus.variants.solutions import Outcome, Tried
from nexus.variants.suspects import Suspect

_SHOWN = 6  # changes of one solution in the text; the data has them all


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A conflict with everything that was found out about it."""

    conflict: Conflict
    tried: tuple[Tried, ...]
    suspect: Suspect
    questions: int
    seconds: float


def explain(
    registry: Registry,
    variant: str,
    solver: Solver,
    history: History,
    metadata: PackageMetadata,
    progress: Callable[[str], None] | None = None,
) -> Explanation | None:
    """The explanation of a variant that does not resolve; None when it does. Raises ResolverUnavailable."""
    declaration = registry.declaration
    tell = progress or (lambda _: None)
    held = declaration.variants[variant]
    conflict = conflicts.find(registry, held, solver)
    if conflict is None:
        return None
    tell(f"{len(conflict.sides)} of {len(held.requirements)} requirements conflict")
    proposed = solutions.propose(declaration, conflict, _standings(registry, conflict, metadata), registry.members)
    tried = solutions.try_all(declaration, proposed, solver, registry.committed, root=registry.root, progress=tell)
    suspect = suspects.find(registry, conflict, history, solver, metadata)
    return Explanation(conflict=conflict, tried=tried, suspect=suspect, questions=solver.questions, seconds=solver.spent_s)


def _standings(registry: Registry, conflict: Conflict, metadata: PackageMetadata) -> dict[str, Standing]:
    """The classes of the members in conflict; one that cannot be read leaves its moves to the resolver."""
    found = {}
    for side in conflict.sides:
        pin = next((pin for pin in registry.committed.of(conflict.variant) if pin.name == side.asked.name), None)
        with contextlib.suppress(MetadataUnavailable):
            found[side.asked.name] = checks.standing_of(registry.declaration, side.asked, pin, metadata)
    return found


# ── as text ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def text(explanation: Explanation) -> str:
    """The explanation for people, in the order they ask: what, who, what to do, since when."""
    conflict = explanation.conflict
    count = len(conflict.sides) + len(conflict.others)
    over = f" over `{conflict.contested}`" if conflict.contested and len(conflict.sides) > 1 else ""
    verb = "conflict" if len(conflict.sides) > 1 else "cannot be met"
    lines = [f"`{conflict.variant}` does not resolve: {len(conflict.sides)} of its {count} requirements {verb}{over}", ""]
    for side in conflict.sides:
        lines += _side(side)
    if not conflict.smallest:
        lines.append("  (time ran out: the set may not be the smallest)")
    lines += ["", "the resolver's proof", *(f"  {line.strip()}" for line in conflict.proof.splitlines() if line.strip()), ""]
    lines += ["tried solutions", *(line for tried in explanation.tried for line in _tried(tried))]
    if not any(tried.outcome is Outcome.WORKS for tried in explanation.tried):
        lines.append("  none of them works: bring the owners above together")
    lines += ["", *_suspect(explanation.suspect), ""]
    lines.append(f"{explanation.questions} questions to the resolver in {explanation.seconds:.1f} s")
    return "\n".join(lines) + "\n"


def _side(side: Side) -> list[str]:
    who = "no owner is named" if side.member else "not a Nexus package"
    if side.owners:
        who = f"owners {', '.join(f'@{owner}' for owner in side.owners)}"
    lines = [f"  {side.asked.text}    {FILE}:{side.asked.line}, {who}"]
    lines += [f"    {step.package} needs {step.needs}" for step in side.chain]
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
        shown = [f"{change.package} {change.before or '–'} → {change.after or '–'}" for _, change in tried.changes[:_SHOWN]]
        more = f", … {len(tried.changes) - _SHOWN} more" if len(tried.changes) > _SHOWN else ""
        lines.append(f"           changes {', '.join(shown)}{more}" if shown else "           changes nothing else")
    return lines


def _edit(edit: solutions.Edit) -> str:
    place = f"{FILE}:{edit.line}:"
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
        "contested": conflict.contested or None,
        "smallest": conflict.smallest,
        "proof": conflict.proof,
        "sides": [_side_data(side) for side in conflict.sides],
        "others": list(conflict.others),
        "solutions": [_tried_data(tried) for tried in explanation.tried],
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
