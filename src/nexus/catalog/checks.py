"""All rules over a snapshot: findings with their places, severities of the registry, waivers applied.

:func:`check` is what every command calls; it is pure, and with a :class:`~nexus.catalog.snapshot.Memory` it looks again only at
packages that changed.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import nexus.catalog.rules  # noqa: F401 - enters the rules in the book
from nexus.catalog import files as places
from nexus.catalog import manifests, rulebook, snapshot, waivers
from nexus.catalog.rulebook import Problem
from nexus.catalog.snapshot import Memory, Package, Snapshot
from nexus.catalog.waivers import Waived
from nexus.kernel import documents
from nexus.kernel.documents import Finding

_MOST_IN_A_FILE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was found. ``waived`` findings do not count."""

    findings: tuple[Finding, ...] = ()
    waived: tuple[Waived, ...] = ()

    @property
    def errors(self) -> int:
        return sum(one.severity == "error" for one in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors

    def passes(self, *, strict: bool = False) -> bool:
        """Whether the registry may go on: no errors, and in strict mode no warnings either."""
        return not (self.findings if strict else self.errors)

    def placed_in(self, folder: str, place: str) -> Report:
        """The report with *folder* of the registry shown as *place*, which is where it was read from."""

        def placed(one: Finding) -> Finding:
            inside = one.file.startswith(f"{folder}/")
            return replace(one, file=posixpath.normpath(f"{place}/{one.file[len(folder) :]}")) if inside else one

        return Report(
            findings=tuple(placed(one) for one in self.findings),
            waived=tuple(replace(one, finding=placed(one.finding)) for one in self.waived),
        )  # fmt: skip

    def only(self, keep: Callable[[Finding], bool]) -> Report:
        """The part of the report that *keep* lets through."""
        return Report(
            findings=tuple(one for one in self.findings if keep(one)),
            waived=tuple(one for one in self.waived if keep(one.finding)),
        )  # fmt: skip


def check(registry: Snapshot, today: date, memory: Memory | None = None) -> Report:
    """Every finding about the registry on this day, sorted by file and line."""
    memory = memory or Memory()
    severities = registry.project.severities
    found: list[Finding] = []
    for package in registry.packages:
        found += _remembered(package, registry, memory)
    own = [one for raw in _registry_findings(registry) if (one := _graded(raw, registry)) is not None]
    own += _run("registry", severities, registry)
    found += _placed(own, registry)
    accepted = waivers.read(registry.waivers)
    active, waived = waivers.apply(found, accepted, today)
    late = [
        one for problem in waivers.problems(accepted, waived, today)
        if (one := rulebook.finding(rulebook.RULES[problem.code], problem, severities)) is not None
    ]  # fmt: skip
    active += _placed(late, registry)
    return Report(findings=tuple(ordered(active)), waived=tuple(waived))


def check_package(registry: Snapshot, package: Package, today: date) -> Report:
    """What concerns this one package, in a registry of which only it (and the files at the root) may have been read."""
    inside = f"{package.path}/"
    broken = {places.PROJECT} if registry.project.findings else set()
    return check(registry, today).only(lambda one: one.file.startswith(inside) or one.file in (package.path, *broken))


def new_since(now: Report, before: Report, changed: Iterable[str]) -> Report:
    """The part of *now* that a change is responsible for: findings in changed files, and elsewhere those that were not there.

    Lines move, so a finding is the same when code, file and message are.
    """
    touched = set(changed)
    known = {_identity(one) for one in before.findings} | {_identity(one.finding) for one in before.waived}
    return now.only(lambda one: one.file in touched or _identity(one) not in known)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """By file, line, column and code, each once."""
    return sorted(dict.fromkeys(findings), key=lambda one: (one.file, one.line, one.column, one.code, one.message))


def _identity(finding: Finding) -> tuple[str, str, str]:
    return finding.code, finding.file, finding.message


def _remembered(package: Package, registry: Snapshot, memory: Memory) -> Sequence[Finding]:
    known = memory.findings.get(package.folder)
    if known is not None and known[0] is package and known[1] is registry.project and known[2] == registry.files.troubles:
        kept: Sequence[Finding] = known[3]
        return kept
    found = [one for raw in snapshot.findings_of(package) if (one := _graded(raw, registry)) is not None]
    found += _run("package", registry.project.severities, package, registry)
    placed = _placed(found, registry)
    memory.findings[package.folder] = (package, registry.project, registry.files.troubles, placed)
    return placed


def _run(scope: str, severities: Mapping[str, str], *subject: Any) -> Iterator[Finding]:
    """What the rules of a scope find, each at most a hundred times in one file."""
    for rule in rulebook.of_scope(scope):
        if rule.check is None or rulebook.severity_of(rule.code, severities) == "off":
            continue
        told: Counter[str] = Counter()
        for problem in rule.check(*subject):
            told[problem.file] += 1
            if told[problem.file] == _MOST_IN_A_FILE + 1:
                problem = Problem(
                    problem.file, f"more than {_MOST_IN_A_FILE} findings like this in the file; the rest is not listed"
                )
            elif told[problem.file] > _MOST_IN_A_FILE:
                continue
            one = rulebook.finding(rule, problem, severities)
            if one is not None:
                yield one


def _registry_findings(registry: Snapshot) -> Iterator[Finding]:
    yield from registry.project.findings
    for benchmark in registry.benchmarks:
        yield from benchmark.findings
    if registry.waivers is not None:
        yield from registry.waivers.findings


def _graded(one: Finding, registry: Snapshot) -> Finding | None:
    return rulebook.graded(one, registry.project.severities)


def _placed(findings: Sequence[Finding], registry: Snapshot) -> list[Finding]:
    """With line and column, looked up only in the files that have findings."""
    texts = {
        one.file: text for one in findings if not one.line and (text := _yaml_text(one.file, registry.files)) is not None
    }  # fmt: skip
    return documents.place(findings, texts) if texts else list(findings)


def _yaml_text(file: str, files: places.Files) -> str | None:
    data = files.contents.get(file)
    if data is None or not file.endswith((".yaml", ".yml", places.SKILL_FILE)):
        return None
    text = data.decode("utf-8-sig", errors="replace")
    if file.endswith(places.SKILL_FILE):
        front = manifests.front_matter(text)
        return None if front is None else f"\n{front}"
    return text
