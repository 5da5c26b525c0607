"""Whose change made the last good resolution fail: a bisection over the registry's history, each state resolved for real.

Resolving always sees today's index, and a new release can only add solutions. So when no earlier declaration resolves either,
the cause is a release that went away: a committed pin that the index has withdrawn or no longer offers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from packaging.version import Version

from nexus.kernel.errors import NexusError
from nexus.variants import model, proof, resolution
from nexus.variants.conflicts import Answerable, Conflict, OutOfTime, Registry, Solver
from nexus.variants.model import FILE, Declaration
from nexus.variants.pins import Pin
from nexus.variants.ports import Commit, History, PackageMetadata, Resolution

MAX_COMMITS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """What made it fail. ``kind``: commit, uncommitted, index (a release that went away), or unknown (``reason`` says why)."""

    kind: str
    commit: Commit | None = None
    changes: tuple[str, ...] = ()  # requirements that changed, as words
    packages: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """One distinct declaration of the variant, and the commit that made it so (None: the folder as it is)."""

    declaration: Declaration
    commit: Commit | None


def find(registry: Registry, conflict: Conflict, history: History, solver: Solver, metadata: PackageMetadata) -> Suspect:
    """The suspect of a conflict, within the solver's budget."""
    try:
        states = _states(registry.declaration, conflict.variant, history)
        names = frozenset(side.asked.name for side in conflict.sides)
        good = _first_good(states, lambda state: _resolves(state, conflict.variant, names, solver, registry.root))
        if good is None:
            return _withdrawn(conflict, registry.committed.of(conflict.variant), metadata, len(states))
    except OutOfTime:
        return Suspect(kind="unknown", reason="the time budget ran out")
    except NexusError as error:
        return Suspect(kind="unknown", reason=error.message)
    guilty, before = states[good - 1], states[good]
    everything = _changed(before.declaration, guilty.declaration, conflict.variant)
    changed = [(name, text) for name, text in everything if name in names or name == guilty.declaration.name] or everything
    packages = tuple(dict.fromkeys(name for name, _ in changed))
    owners = tuple(dict.fromkeys(owner for name in packages for owner in registry.answerable.get(name, Answerable()).owners))
    kind = "commit" if guilty.commit is not None else "uncommitted"
    return Suspect(kind=kind, commit=guilty.commit, changes=tuple(text for _, text in changed), packages=packages, owners=owners)


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


def _resolves(state: _State, variant: str, names: frozenset[str], solver: Solver, root: str) -> bool:
    """Whether what that declaration asked of the packages in conflict went together; the variant may have had other troubles."""
    asked = [one.text for one in state.declaration.variants[variant].requirements if one.name in names]
    return not asked or isinstance(solver.ask(resolution.question(state.declaration, asked, root=root)), Resolution)


def _withdrawn(conflict: Conflict, held: Sequence[Pin], metadata: PackageMetadata, states: int) -> Suspect:
    """The committed pins that the proof names and the index no longer offers: withdrawn (yanked) or gone."""
    named = {proof.name_of(word) for word in conflict.proof.split()}
    gone: dict[str, str] = {}
    for pin in held:
        if pin.name in named and pin.version:
            offered = {release.version: release for release in metadata.releases(pin.name)}
            release = offered.get(str(Version(pin.version)))
            if release is None or release.yanked:
                gone[pin.name] = f"`{pin.name}` {pin.version} was {'withdrawn from' if release else 'removed from'} the index"
    if gone:
        return Suspect(kind="index", packages=tuple(gone), changes=tuple(gone.values()))
    known = f"none of the last {states} declarations resolves" if states > 1 else "Git knows no earlier declaration of the variant"
    return Suspect(kind="unknown", reason=f"{known}, and the index still offers every committed pin that the proof names")


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
