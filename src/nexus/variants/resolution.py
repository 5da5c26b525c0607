"""Resolving variants: the questions to the resolver, and the plan of files that the answers make.

The CLI prints the plan before it is written, all or nothing. What is wrong with committed pins is `checks`; why there is no
answer is `conflicts`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from nexus.kernel.documents import Finding
from nexus.kernel.errors import UnknownVariant
from nexus.variants import graph, pins
from nexus.variants.model import Declaration, Variant
from nexus.variants.pins import Pin
from nexus.variants.ports import Locker, Problem, Resolution, Resolver, Unsatisfiable

LOCK = "uv.lock"
WORKERS = 3  # one a variant; uv itself uses every core for a moment only
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """What a registry holds of its variants at one moment: pins by variant, findings, and the texts of the files there are."""

    pins: Mapping[str, tuple[Pin, ...]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def of(self, variant: str) -> tuple[Pin, ...]:
        return self.pins.get(variant, ())

    @property
    def locked(self) -> bool:
        """Whether the registry keeps a `uv.lock`."""
        return LOCK in self.texts


@dataclass(frozen=True, kw_only=True, slots=True)
class FileChange:
    """One file of a plan. ``before`` None: it is new; ``after`` None: it is removed. ``changes`` say what differs, by package."""

    path: str
    before: str | None
    after: str | None
    changes: tuple[graph.Change, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything a resolution writes, to be printed first; empty when the committed files stand."""

    files: tuple[FileChange, ...] = ()


def files_of(variants: Iterable[str]) -> tuple[str, ...]:
    """Every file that says something of these variants, relative to the registry."""
    return (LOCK, *(path for name in variants for path in (pins.file_of(name), pins.git_file_of(name))))


def read_committed(texts: Mapping[str, str], variants: Iterable[str]) -> Committed:
    """The committed pins from the texts of the files there are."""
    found: dict[str, tuple[Pin, ...]] = {}
    findings: list[Finding] = []
    for name in variants:
        for path in (pins.file_of(name), pins.git_file_of(name)):
            if path in texts:
                read = pins.parse(texts[path], path)
                found[name] = (*found.get(name, ()), *read.pins)
                findings += read.findings
    return Committed(pins=found, texts=texts, findings=tuple(findings))


def select(declaration: Declaration, names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants of these names, all without names. Raises UnknownVariant."""
    unknown = [name for name in names if name not in declaration.variants]
    if unknown:
        declared = ", ".join(f"`{name}`" for name in declaration.variants) or "none"
        raise UnknownVariant(f"the registry declares no variant `{unknown[0]}`", hint=f"declared: {declared}")
    return tuple(variant for name, variant in declaration.variants.items() if not names or name in names)


def question(
    declaration: Declaration,
    requirements: Iterable[str],
    *,
    root: str = "",
    preferences: Sequence[Pin] = (),
    upgrade: Sequence[str] = (),
    overrides: Sequence[str] = (),
    exclude_newer: str | None = None,
) -> Problem:
    """The problem these requirements pose under the registry's settings. *root* makes relative sources absolute."""
    rules = declaration.rules
    return Problem(
        name=declaration.name, requirements=tuple(requirements), python=declaration.lowest_python,
        requires_python=declaration.requires_python, settings=_absolute(declaration.uv, root), overrides=tuple(overrides),
        preferences=tuple(preferences), upgrade=tuple(upgrade), build=rules.build,
        exclude_newer=rules.exclude_newer if exclude_newer is None else exclude_newer,
    )  # fmt: skip


def texts(variant: Variant) -> tuple[str, ...]:
    """The requirements of a variant as they are written."""
    return tuple(asked.text for asked in variant.requirements)


def resolve(
    declaration: Declaration, variants: Sequence[Variant], resolver: Resolver, committed: Committed, *,
    root: str = "", upgrade: Sequence[str] | None = (), progress: Progress | None = None,
) -> dict[str, Resolution | Unsatisfiable]:  # fmt: skip
    """The answer for each variant, resolved apart and at once. *upgrade*: packages to renew; None renews all.

    Committed pins are kept where they still fit. Raises ResolverUnavailable.
    """

    def one(variant: Variant) -> Resolution | Unsatisfiable:
        keep = committed.of(variant.name) if upgrade is not None else ()
        answer = resolver.resolve(question(declaration, texts(variant), root=root, preferences=keep, upgrade=upgrade or ()))
        if progress is not None:
            progress(f"{variant.name}: {describe(answer)}")
        return answer

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip([variant.name for variant in variants], pool.map(one, variants), strict=True))


def resolve_locked(
    variants: Sequence[Variant], locker: Locker, root: str, *, upgrade: Sequence[str] | None = (), progress: Progress | None = None
) -> tuple[str, dict[str, Resolution]] | Unsatisfiable:
    """The renewed `uv.lock` and what it pins for each variant, of a registry that keeps one. Raises ResolverUnavailable."""
    lock = locker.lock(root, upgrade=upgrade)
    if isinstance(lock, Unsatisfiable):
        return lock
    with ThreadPoolExecutor(WORKERS) as pool:
        exported = pool.map(lambda variant: Resolution(pins=locker.export(root, variant.name, lock)), variants)
        answers = dict(zip([variant.name for variant in variants], exported, strict=True))
    if progress is not None:
        for name, answer in answers.items():
            progress(f"{name}: {describe(answer)}")
    return lock, answers


def describe(answer: Resolution | Unsatisfiable) -> str:
    return f"{len(answer.pins)} packages" if isinstance(answer, Resolution) else "no solution"


def plan(
    declaration: Declaration, answers: Mapping[str, Resolution], committed: Committed, *, lock: str | None = None
) -> Plan:  # fmt: skip
    """The files that these answers change. A file whose pins stand is left as it is, whoever wrote it."""
    files: list[FileChange] = []
    if lock is not None and lock != committed.texts.get(LOCK):
        files.append(FileChange(path=LOCK, before=committed.texts.get(LOCK), after=lock))
    for name, answer in answers.items():
        if name in committed.pins and not pins.compare(answer.pins, committed.of(name)):
            continue
        files += _written(declaration, name, answer.pins, committed)
    return Plan(files=tuple(files))


def _written(declaration: Declaration, name: str, resolved: Sequence[Pin], committed: Committed) -> list[FileChange]:
    command = f"nexus variants resolve {name}"
    indexed, sources = pins.split(resolved)
    changes = graph.compare(committed.of(name), resolved)
    path, git_path = pins.file_of(name), pins.git_file_of(name)
    files = [FileChange(path=path, before=committed.texts.get(path), after=pins.render(indexed, command), changes=changes)]
    before = committed.texts.get(git_path)
    if sources or before is not None:
        files.append(FileChange(path=git_path, before=before, after=pins.render_git(sources, command) if sources else None))
    return files


def _absolute(settings: Mapping[str, Any], root: str) -> dict[str, Any]:
    """The `[tool.uv]` table with the paths of its sources made absolute, because questions are asked in another folder."""
    sources = settings.get("sources")
    if not root or not isinstance(sources, dict):
        return dict(settings)

    def placed(source: Any) -> Any:
        if isinstance(source, list):
            return [placed(one) for one in source]
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            return {**source, "path": posixpath.join(root, source["path"])}
        return source

    return {**settings, "sources": {name: placed(source) for name, source in sources.items()}}
