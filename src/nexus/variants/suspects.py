"""Whose change made the last good resolution fail: a bisection over the registry's history, each state resolved for real.

Resolving always sees today's index. So when no earlier declaration resolves either, the cause is a release that came after the
last pins were committed; that is shown by resolving as of the day of those pins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from packaging.utils import canonicalize_name

from nexus.kernel.errors import NexusError
from nexus.variants import model, pins, resolution
from nexus.variants.conflicts import Answerable, Conflict, OutOfTime, Solver
from nexus.variants.model import FILE, Declaration
from nexus.variants.ports import Commit, History, Resolution

MAX_COMMITS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """What made it fail. ``kind``: commit, uncommitted, index (a release since), or unknown (``reason`` says why)."""

    kind: str
    commit: Commit | None = None
    changes: tuple[str, ...] = ()  # requirements that changed, as words
    packages: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    since: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """One distinct declaration of the variant, and the commit that made it so (None: the folder as it is)."""

    declaration: Declaration
    commit: Commit | None


def find(
    declaration: Declaration, conflict: Conflict, history: History, solver: Solver, *,
    root: str = "", answerable: Mapping[str, Answerable] | None = None,
) -> Suspect:  # fmt: skip
    """The suspect of a conflict, within the solver's budget."""
    try:
        states = _states(declaration, conflict.variant, history)
        good = _first_good(states, lambda state: _resolves(state, conflict.variant, solver, root))
        if good is None:
            return _index(declaration, conflict, history, solver, root, len(states))
    except OutOfTime:
        return Suspect(kind="unknown", reason="the time budget ran out")
    except NexusError as error:
        return Suspect(kind="unknown", reason=error.message)
    guilty, before = states[good - 1], states[good]
    changed = _changed(before.declaration, guilty.declaration, conflict.variant)
    names = tuple(dict.fromkeys(name for name, _ in changed))
    owners = tuple(dict.fromkeys(owner for name in names for owner in (answerable or {}).get(name, Answerable()).owners))
    kind = "commit" if guilty.commit is not None else "uncommitted"
    return Suspect(kind=kind, commit=guilty.commit, changes=tuple(text for _, text in changed), packages=names, owners=owners)


def _states(declaration: Declaration, variant: str, history: History) -> list[_State]:
    """The distinct declarations of the variant, newest first; each with the oldest commit that has it."""
    states = [_State(declaration=declaration, commit=None)]
    for commit in history.commits([FILE], MAX_COMMITS):
        text = history.text(commit.id, FILE)
        held = model.read(text) if text is not None else None
        if held is None or variant not in held.variants:
            break
        if _asked(held, variant) == _asked(states[-1].declaration, variant):
            states[-1] = _State(declaration=states[-1].declaration, commit=commit)
        else:
            states.append(_State(declaration=held, commit=commit))
    return states


def _asked(declaration: Declaration, variant: str) -> frozenset[str]:
    held = declaration.variants.get(variant)
    return frozenset((*(one.text for one in held.requirements), declaration.requires_python)) if held is not None else frozenset()


def _first_good(states: Sequence[_State], resolves: Callable[[_State], bool]) -> int | None:
    """The newest state that resolves whose successor does not, by doubling steps and then halving; None when none resolves."""
    bad, step = 0, 1
    while bad + 1 < len(states):
        probe = min(bad + step, len(states) - 1)
        if resolves(states[probe]):
            break
        bad, step = probe, step * 2
    else:
        return None
    good = probe
    while good - bad > 1:
        middle = (good + bad) // 2
        if resolves(states[middle]):
            good = middle
        else:
            bad = middle
    return good


def _resolves(state: _State, variant: str, solver: Solver, root: str) -> bool:
    held = state.declaration.variants[variant]
    return isinstance(solver.ask(resolution.question(state.declaration, resolution.texts(held), root=root)), Resolution)


def _index(declaration: Declaration, conflict: Conflict, history: History, solver: Solver, root: str, states: int) -> Suspect:
    """Whether the same declaration resolved on the day its pins were committed: then a release since is the cause."""
    commits = history.commits([pins.file_of(conflict.variant)], 1)
    if not commits:
        reason = "no earlier state resolves" if states > 1 else "Git knows no earlier state of the declaration"
        return Suspect(kind="unknown", reason=reason)
    day = commits[0].at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    requirements = resolution.texts(declaration.variants[conflict.variant])
    answer = solver.ask(resolution.question(declaration, requirements, root=root, exclude_newer=day))
    if not isinstance(answer, Resolution):
        return Suspect(kind="unknown", reason=f"no state of the last {states} resolves, not even with the index of {day}")
    names = (conflict.contested, *(side.asked.name for side in conflict.sides))
    return Suspect(kind="index", commit=commits[0], packages=tuple(dict.fromkeys(filter(None, names))), since=commits[0].at)


def _changed(before: Declaration, after: Declaration, variant: str) -> list[tuple[str, str]]:
    """The requirements that changed, by package, as words."""
    old, new = ({one.text: one.name for one in held.variants[variant].requirements} for held in (before, after))
    gone = {name: text for text, name in old.items() if text not in new}
    found: list[tuple[str, str]] = []
    for text, name in new.items():
        if text in old:
            continue
        found.append((name, f"`{gone.pop(name)}` became `{text}`" if name in gone else f"`{text}` was added"))
    found += [(name, f"`{text}` was removed") for name, text in gone.items()]
    if before.requires_python != after.requires_python:
        found.append((canonicalize_name(after.name), f"`requires-python` became `{after.requires_python}`"))
    return found
