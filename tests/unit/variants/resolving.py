"""A resolver over a table of packages, small enough to read: every answer is found by trying all versions, newest first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nexus.kernel.errors import MetadataUnavailable, ResolverUnavailable
from nexus.variants.pins import Pin
from nexus.variants.ports import Commit, Installable, Metadata, Problem, Release, Resolution, Target, Unsatisfiable

Universe = Mapping[str, Mapping[str, Sequence[str]]]  # package → version → requires-dist


@dataclass
class TableResolver:
    """Answers from *universe*; ``fail_after`` questions the index goes away; ``added`` gives the day a version appeared."""

    universe: Universe
    fail_after: int | None = None
    added: Mapping[tuple[str, str], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    not_installable: Mapping[str, str] = field(default_factory=dict)
    archives: frozenset[tuple[str, str]] = frozenset()  # releases without a wheel

    def resolve(self, problem: Problem, *, limit_s: float = math.inf) -> Resolution | Unsatisfiable:
        self.problems.append(problem)
        if self.fail_after is not None and len(self.problems) > self.fail_after:
            raise ResolverUnavailable("the index does not answer", hint="repeat")
        asked = [(Requirement(text), problem.name) for text in problem.requirements]
        found = self._extend({}, asked, {}, problem)
        if found is None:
            return Unsatisfiable(proof=self._proof(problem))
        chosen, via = found
        return Resolution(pins=tuple(_pin(name, chosen[name], via[name]) for name in sorted(chosen)))

    def install_check(self, pins: Sequence[Pin], target: Target) -> Installable:
        return Installable(problem=self.not_installable.get(target.python, ""))

    def _extend(self, chosen, asked, via, problem):  # type: ignore[no-untyped-def]
        if not asked:
            return chosen, via
        (requirement, asker), *rest = asked
        name = canonicalize_name(requirement.name)
        override = next(
            (Requirement(text) for text in problem.overrides if canonicalize_name(Requirement(text).name) == name), None
        )
        allowed = override or requirement
        via = {**via, name: (*via.get(name, ()), asker)}
        if name in chosen:
            return self._extend(chosen, rest, via, problem) if chosen[name] in allowed.specifier else None
        for version in self._candidates(name, problem):
            if version in allowed.specifier:
                needs = [(Requirement(text), name) for text in self.universe[name][version]] if problem.dependencies else []
                wanted = [(one, who) for one, who in needs if one.marker is None or _extra_on(one, requirement)]
                found = self._extend({**chosen, name: version}, [*rest, *wanted], via, problem)
                if found is not None:
                    return found
        return None

    def _candidates(self, name: str, problem: Problem) -> list[str]:
        held = [pin.version for pin in problem.preferences if pin.name == name and name not in problem.upgrade]
        known = [
            version for version in self.universe.get(name, {})
            if (not problem.exclude_newer or self.added.get((name, version), "2020-01-01") < problem.exclude_newer)
            and (problem.build or (name, version) not in self.archives)
        ]  # fmt: skip
        newest = sorted((version for version in known if not Version(version).is_prerelease), key=Version, reverse=True)
        return [version for version in held if version in known] + [version for version in newest if version not in held]

    def _proof(self, problem: Problem) -> str:
        """In uv's words, for what tests need: the edges of each package's newest version that is asked for, then the verdict."""
        edges = [f"{name}=={version} has no usable wheels" for name, version in sorted(self.archives)]
        for name, versions in self.universe.items():
            bounds = [
                Requirement(text).specifier for text in problem.requirements if canonicalize_name(Requirement(text).name) == name
            ]
            allowed = [version for version in versions if all(version in bound for bound in bounds)] or list(versions)
            newest = max(allowed, key=Version)
            edges += [f"{name}>={newest} depends on {need.split(';')[0].strip()}" for need in versions[newest]]
        roots = " and ".join(f"{problem.name} depends on {text}" for text in problem.requirements)
        return f"Because {' and '.join([*edges, roots])}, we can conclude that your requirements are unsatisfiable."


@dataclass
class TableMetadata:
    """The metadata of the same table."""

    universe: Universe
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    yanked: frozenset[tuple[str, str]] = frozenset()

    def releases(self, name: str) -> Sequence[Release]:
        if name not in self.universe:
            raise MetadataUnavailable(f"the index has no package `{name}`")
        return [
            Release(version=version, yanked=(name, version) in self.yanked) for version in sorted(self.universe[name], key=Version)
        ]

    def metadata(self, name: str, version: str) -> Metadata:
        if version not in self.universe.get(name, {}):
            raise MetadataUnavailable(f"the index has no release {version} of `{name}`")
        asked = tuple(self.universe[name][version])
        return Metadata(name=name, version=version, requires_dist=asked, extras=self.extras.get(name, ()))

    def source(self, name: str, url: str) -> Metadata:
        raise MetadataUnavailable(f"`{url}` cannot be read")


@dataclass
class ListedHistory:
    """A history from a list, newest first: (commit, path → text)."""

    states: Sequence[tuple[Commit, Mapping[str, str]]] = ()

    def text(self, revision: str, path: str) -> str | None:
        return next((texts.get(path) for commit, texts in self.states if commit.id == revision), None)

    def commits(self, paths: Sequence[str], limit: int) -> Sequence[Commit]:
        found = []
        older = [*[texts for _, texts in self.states[1:]], {}][: len(self.states)]
        for (commit, texts), before in zip(self.states, older, strict=True):
            if any(texts.get(path) != before.get(path) for path in paths):
                found.append(commit)
        return found[:limit]


def _pin(name: str, version: str, via: Sequence[str]) -> Pin:
    return Pin(
        name=name, version=version, hashes=(f"sha256:{abs(hash((name, version))):064x}"[:71],), via=tuple(dict.fromkeys(via))
    )


def _extra_on(needed: Requirement, asked: Requirement) -> bool:
    return any(needed.marker.evaluate({"extra": extra}) for extra in (asked.extras or {""})) if needed.marker else True
