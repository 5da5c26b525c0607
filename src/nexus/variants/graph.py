"""Who brings what: chains through a variant's pins, and what changed between two sets of pins and why.

Edges are the ``# via`` comments of a requirements file, so every question is answered offline and for any revision. Pure; used by
the CLI (`why`, `diff`, `matrix`), the explanation of conflicts and the views.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.version import InvalidVersion, Version

from nexus.variants.model import Asked
from nexus.variants.pins import Pin
from nexus.variants.pins import compare as compare_pins

MAX_CHAINS = 1000
_MAX_STEPS = 50_000  # of one search; a graph of 500 packages has more simple paths than anyone reads


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """One way a package comes in: from what the registry asks for (first) to the package (last)."""

    packages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chains:
    """Every chain that brings a package, shortest first; ``complete`` is False when there are more than are counted."""

    chains: tuple[Chain, ...]
    complete: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One package that differs: ``kind`` is added, removed, up, down or changed (a source, a marker or files)."""

    package: str
    kind: str
    before: str = ""
    after: str = ""
    causes: tuple[str, ...] = ()


def parents(pins: Iterable[Pin]) -> dict[str, frozenset[str]]:
    """Package → what asked for it (names of packages, and of the registry's own project)."""
    found: dict[str, set[str]] = {}
    for pin in pins:
        found.setdefault(pin.name, set()).update(pin.via)
    return {name: frozenset(via) for name, via in found.items()}


def chains(pins: Iterable[Pin], package: str) -> Chains:
    """Every simple chain from a package the registry asks for to *package*; at most MAX_CHAINS, shortest first."""
    above = parents(pins)
    if package not in above:
        return Chains(chains=())
    found: list[Chain] = []
    paths: deque[tuple[str, ...]] = deque([(package,)])
    for _ in range(_MAX_STEPS):
        if not paths or len(found) == MAX_CHAINS:
            break
        path = paths.popleft()
        via = above.get(path[0], frozenset())
        if not via or any(name not in above for name in via):  # asked for by the registry itself
            found.append(Chain(packages=path))
        paths.extend((name, *path) for name in sorted(via) if name in above and name not in path)
    return Chains(chains=tuple(found), complete=not paths)


def compare(
    before: Sequence[Pin], after: Sequence[Pin], asked_before: Sequence[Asked] = (), asked_after: Sequence[Asked] = ()
) -> tuple[Change, ...]:
    """What changed, by package, each with the packages or requirements that caused it."""
    old, new = _by_name(before), _by_name(after)
    changed = {name for name in old.keys() | new.keys() if _differ(old.get(name, ()), new.get(name, ()))}
    causes = _Causes(changed, parents(before), parents(after), _texts(asked_before), _texts(asked_after))
    return tuple(
        Change(package=name, kind=_kind(old.get(name, ()), new.get(name, ())), before=_shown(old.get(name, ())),
               after=_shown(new.get(name, ())), causes=causes.of(name))
        for name in sorted(changed)
    )  # fmt: skip


class _Causes:
    """Follows a change up its chains: to a requirement that was edited, else to a new release at the top of the change."""

    def __init__(
        self, changed: set[str], before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]],
        asked_before: Mapping[str, str], asked_after: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.changed, self.before, self.after = changed, before, after
        self.asked_before, self.asked_after = asked_before, asked_after

    def of(self, package: str) -> tuple[str, ...]:
        """The causes, edits of the declaration first; a package that only changed its askers has none of its own."""
        found = tuple(dict.fromkeys(self._walk(package, {package})))
        return tuple(sorted(found, key=lambda text: (" release of " in text, text))) or ("other packages ask for it now",)

    def _walk(self, package: str, seen: set[str]) -> Iterator[str]:
        if self.asked_before.get(package) != self.asked_after.get(package):
            yield self._edited(package)
            return
        above = (self.after.get(package, frozenset()) | self.before.get(package, frozenset())) & self.changed
        if not above and self._same_askers(package):
            yield f"another release of `{package}`"
        for name in sorted(above - seen):
            seen.add(name)
            yield from self._walk(name, seen)

    def _edited(self, package: str) -> str:
        before, after = self.asked_before.get(package), self.asked_after.get(package)
        if before is None:
            return f"`{after}` was added to the declaration"
        return f"`{before}` became `{after}`" if after is not None else f"`{before}` was removed from the declaration"

    def _same_askers(self, package: str) -> bool:
        return self.before.get(package) == self.after.get(package)


def _by_name(pins: Iterable[Pin]) -> dict[str, tuple[Pin, ...]]:
    found: dict[str, tuple[Pin, ...]] = {}
    for pin in pins:
        found[pin.name] = (*found.get(pin.name, ()), pin)
    return found


def _differ(before: Sequence[Pin], after: Sequence[Pin]) -> bool:
    """Whether versions, sources or conditions differ; files of the same version do not count."""
    return bool(compare_pins([replace(pin, hashes=()) for pin in after], [replace(pin, hashes=()) for pin in before]))


def _shown(pins: Sequence[Pin]) -> str:
    return ", ".join(dict.fromkeys(pin.shown for pin in pins))


def _texts(asked: Iterable[Asked]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in asked:
        found[one.name] = f"{found[one.name]}, {one.text}" if one.name in found else one.text
    return found


def _kind(before: Sequence[Pin], after: Sequence[Pin]) -> str:
    if not before or not after:
        return "added" if after else "removed"
    try:
        old, new = (max(Version(pin.version) for pin in pins) for pins in (before, after))
    except InvalidVersion:  # a Git source
        return "changed"
    return "changed" if old == new else "up" if new > old else "down"
