"""Small registries as ``{path: text}`` for the tests of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from nexus.catalog import checks, snapshot
from nexus.catalog.checks import Report
from nexus.catalog.files import Files, Trouble, wanted
from nexus.catalog.snapshot import Snapshot

DAY = date(2026, 11, 21)
NEXUS = "packages/graphs/nexus.yaml"
MODEL = "packages/graphs/models/clubs/model.yaml"
USAGE = "packages/graphs/models/clubs/usage.md"
SPACE = "packages/graphs/models/clubs/benchmark_instances/sizes/space.yaml"
BENCHMARK = "benchmarks/communities.yaml"
LOCAL = "packages/graphs/benchmark_packages/clubs-benchmarks/pyproject.toml"

VALID: dict[str, str] = {
    "pyproject.toml": """[project]
name = "r"

[project.optional-dependencies]
ecosystem = [
    "graphs>=1",
]
candidate = ["vllm"]
""",
    NEXUS: """package:
  name: graphs
  owners: [octocat]
  docs: https://example.org/docs
  benchmark_packages:
    - requirement_specifier: ./packages/graphs/benchmark_packages/clubs-benchmarks
      experiments: [club_quality]
""",
    MODEL: """model:
  id: example-org/clubs
  testing:
    hardware:
      minimum:
        cpu: {cores: 1}
    commands: [python -m pytest tests]
    data: [tests/clubs.txt]
    scenarios:
      - {name: one, kind: inference, input: tests/clubs.txt, checks: the clubs}
    time_limit: 2m
""",
    USAGE: "# Clubs\n\nInstall `graphs`.\n",
    "packages/graphs/models/clubs/tests/clubs.txt": "1 2\n",
    LOCAL: '[project]\nname = "clubs-benchmarks"\n',
    "packages/graphs/skills/find-clubs/SKILL.md": "---\nname: find-clubs\ndescription: Finds clubs.\n---\n\n# Find: [clubs\n",
    SPACE: """entitySpace:
  - identifier: size
    propertyDomain: {values: [1, 2], variableType: DISCRETE_VARIABLE_TYPE}
experiments:
  - {actuatorIdentifier: custom_experiments, experimentIdentifier: club_quality, experimentVersion: 1.0.0}
""",
    BENCHMARK: """logicalBenchmark:
  benchmarkIdentifier: communities
  description: How well a graph is divided.
  target: {identifier: algorithm}
  properties:
    - identifier: dataset
      propertyDomain: {values: [karate]}
  metrics: [modularity]
  owner: octocat
bindings:
  - benchmarkIdentifier: communities
    experiment: {actuatorIdentifier: custom_experiments, experimentIdentifier: club_quality, experimentVersion: 1.0.0}
    targetMapping: algorithm
    propertyMapping:
      - {benchmark: {identifier: dataset}, experiment: {identifier: graph}}
      - categoricalValue: {property: {identifier: dataset}, value: karate}
        predicate: [{identifier: graph}]
    metricMapping:
      - {benchmark: {identifier: modularity}, experiment: {identifier: q}}
""",
}


def files(*changes: Mapping[str, str | bytes | None], troubles: tuple[Trouble, ...] = ()) -> Files:
    """The valid registry with these changes; None takes a file away."""
    texts: dict[str, str | bytes | None] = dict(VALID)
    for change in changes:
        texts.update(change)
    data = {path: text.encode() if isinstance(text, str) else text for path, text in texts.items() if text is not None}
    return Files(
        contents={path: text for path, text in data.items() if wanted(path)},
        others=frozenset(path for path in data if not wanted(path)),
        troubles=troubles,
    )


def build(*changes: Mapping[str, str | bytes | None], troubles: tuple[Trouble, ...] = ()) -> Snapshot:
    """The snapshot of the valid registry with these changes."""
    return snapshot.build(files(*changes, troubles=troubles))


def report(*changes: Mapping[str, str | bytes | None], troubles: tuple[Trouble, ...] = ()) -> Report:
    """What is found in the valid registry with these changes."""
    return checks.check(build(*changes, troubles=troubles), DAY)


def edited(path: str, old: str, new: str) -> dict[str, str | bytes | None]:
    """The change that replaces one piece of text of a file."""
    assert old in VALID[path], (path, old)
    return {path: VALID[path].replace(old, new, 1)}


def places(found: Report) -> list[tuple[str, str, int]]:
    """Code, file and line of every finding."""
    return [(one.code, one.file, one.line) for one in found.findings]
