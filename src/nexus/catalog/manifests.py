"""Manifests as values: what ``nexus.yaml``, ``model.yaml``, ``SKILL.md``, ``space.yaml`` and logical benchmarks say.

Reading never fails: what cannot be used is missing in the value and stands in its findings. Lines and columns are not known
here; a finding keeps the path inside its document and ``report`` looks the place up. Called by ``snapshot`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nexus.catalog import rulebook, schema, shapes
from nexus.catalog.rulebook import Problem
from nexus.catalog.shapes import Shape
from nexus.kernel import documents
from nexus.kernel.documents import DocumentError, Finding, Path

EMPTY = rulebook.enter(
    "NX-C024",
    "manifest-empty",
    "A manifest is empty",
    severity="error",
    text="The file is there but says nothing: it is empty, or holds only comments.",
    hint="fill it in, or remove it; `nexus new` writes one that is valid",
)
FRONT_MATTER = rulebook.enter(
    "NX-C071",
    "skill-front-matter",
    "A skill has no front matter",
    text="`SKILL.md` begins with a block of YAML between two lines of `---` with at least `name` and `description`, as the agent "
    "skills specification asks: agents choose a skill by them.",
    hint="begin the file with `---`, `name: …`, `description: …`, `---`",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One file as it was read: plain data (None when unusable) and what is wrong with its form."""

    file: str
    data: Any = None
    findings: tuple[Finding, ...] = ()
    line: int = 0  # lines above the YAML, for front matter


@dataclass(frozen=True, slots=True)
class Experiment:
    """A reference to an experiment, and where it stands. ``actuator`` is empty where the name alone is registered."""

    name: str
    actuator: str = ""
    version: str = ""
    at: Path = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """A benchmark package a Nexus package registers."""

    requirement: str
    experiments: tuple[Experiment, ...]
    at: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageManifest:
    """``nexus.yaml``. ``variants`` is None where the file does not name them; unless ``understood``, nothing is known of it."""

    file: str
    understood: bool = True
    name: str = ""
    owners: tuple[str, ...] = ()
    variants: tuple[str, ...] | None = None
    docs: str = ""
    registrations: tuple[Registration, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelManifest:
    """``model.yaml``. ``vllm`` and ``testing`` are None where the section is absent; ``understood`` as above."""

    file: str
    understood: bool = True
    id: str = ""
    owner: str = ""
    vllm: Mapping[str, Any] | None = None
    testing: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """``space.yaml``: what a benchmark instance varies and measures."""

    file: str
    experiments: tuple[Experiment, ...] = ()
    properties: tuple[tuple[str, Mapping[str, Any]], ...] = ()  # identifier and domain
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LogicalBenchmark:
    """``benchmarks/<id>.yaml``. ``properties`` gives the values of closed categorical ones, None for open ones."""

    file: str
    id: str = ""
    description: str = ""
    target: str = ""
    owner: str = ""
    properties: Mapping[str, tuple[Any, ...] | None] = field(default_factory=dict)
    metrics: tuple[str, ...] | None = None
    bindings: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Finding, ...] = ()


def read_package(file: str, data: bytes) -> PackageManifest:
    """The manifest of a package."""
    document = read(file, data, schema.PACKAGE)
    table = _table(document.data, "package")
    registrations = []
    for index, entry in enumerate(_list(table, "benchmark_packages", dict)):
        at: Path = ("package", "benchmark_packages", index)
        experiments = tuple(
            _experiment(one, (*at, "experiments", number)) for number, one in enumerate(_list(entry, "experiments"))
        )
        registrations.append(Registration(requirement=_text(entry, "requirement_specifier"), experiments=experiments, at=at))
    return PackageManifest(
        file=file,
        understood=_has_table(document.data, "package"),
        name=_text(table, "name"),
        owners=tuple(_list(table, "owners", str)),
        variants=tuple(_list(table, "variants", str)) if table.get("variants") is not None else None,
        docs=_text(table, "docs"),
        registrations=tuple(registrations),
        findings=document.findings,
    )


def read_model(file: str, data: bytes) -> ModelManifest:
    """The manifest of a model."""
    document = read(file, data, schema.MODEL)
    table = _table(document.data, "model")
    return ModelManifest(
        file=file,
        understood=_has_table(document.data, "model"),
        id=_text(table, "id"),
        owner=_text(table, "owner"),
        vllm=_table(table, "vllm") if table.get("vllm") is not None else None,
        testing=_table(table, "testing") if table.get("testing") is not None else None,
        findings=document.findings,
    )


def read_space(file: str, data: bytes) -> Space:
    """The discovery space of a benchmark instance."""
    document = read(file, data, schema.SPACE)
    table = document.data if isinstance(document.data, dict) else {}
    experiments = tuple(
        _experiment(one, ("experiments", index)) for index, one in enumerate(_list(table, "experiments")) if isinstance(one, dict)
    )
    properties = tuple((_text(one, "identifier"), _table(one, "propertyDomain")) for one in _list(table, "entitySpace", dict))
    return Space(file=file, experiments=experiments, properties=properties, findings=document.findings)


def read_logical_benchmark(file: str, data: bytes) -> LogicalBenchmark:
    """A logical benchmark with its bindings."""
    document = read(file, data, schema.LOGICAL_BENCHMARK)
    table = _table(document.data, "logicalBenchmark")
    properties = {}
    for one in _list(table, "properties", dict):
        domain = _table(one, "propertyDomain")
        properties[_text(one, "identifier")] = tuple(domain["values"]) if isinstance(domain.get("values"), list) else None
    return LogicalBenchmark(
        file=file,
        id=_text(table, "benchmarkIdentifier"),
        description=_text(table, "description"),
        target=_text(_table(table, "target"), "identifier"),
        owner=_text(table, "owner"),
        properties=properties,
        metrics=tuple(_list(table, "metrics", str)) if table.get("metrics") is not None else None,
        bindings=tuple(_list(document.data, "bindings", dict)),
        findings=document.findings,
    )


def read_skill(file: str, data: bytes) -> Document:
    """The front matter of a skill."""
    try:
        text = documents.decode(data, file)
    except DocumentError as error:
        return Document(file=file, findings=(error.finding,))
    front = front_matter(text)
    if front is None:
        return Document(
            file=file,
            findings=(
                Finding(
                    code=FRONT_MATTER,
                    file=file,
                    line=1,
                    message="the file has no front matter",
                    hint=rulebook.RULES[FRONT_MATTER].hint,
                ),
            ),
        )
    return read(file, ("\n" + front).encode(), schema.SKILL)  # one empty line stands for the `---`, so lines stay right


def front_matter(text: str) -> str | None:
    """The YAML between the first two lines of ``---``; None when the text does not begin with such a block."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return None
    end = next((number for number, line in enumerate(lines) if number and line.rstrip() == "---"), None)
    return None if end is None else "\n".join(lines[1:end]) + "\n"


def read(file: str, data: bytes, shape: Shape) -> Document:
    """The document of a file, checked against *shape*; syntax and shape findings have the severity of their rule."""
    try:
        value = documents.load(documents.decode(data, file), file)
    except DocumentError as error:
        return Document(file=file, findings=(error.finding,))
    if value is None:
        return Document(file=file, findings=(_as_finding(Problem(file, "the file is empty", code=EMPTY)),))
    problems = shapes.check(value, shape, file)
    return Document(file=file, data=value, findings=tuple(_as_finding(one) for one in problems))


def _as_finding(problem: Problem) -> Finding:
    one = rulebook.RULES[problem.code]
    return Finding(
        code=problem.code,
        message=problem.message,
        hint=problem.hint or one.hint,
        file=problem.file,
        at=problem.at,
        severity=one.severity,
    )


def _experiment(one: Any, at: Path) -> Experiment:
    if isinstance(one, dict):
        return Experiment(_text(one, "experimentIdentifier"), _text(one, "actuatorIdentifier"), _text(one, "experimentVersion"), at)
    return Experiment(one if isinstance(one, str) else "", at=at)


def _has_table(value: Any, key: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), dict)


def _table(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list(value: Any, key: str, of: type = object) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return [item for item in found[: shapes.MOST] if isinstance(item, of)] if isinstance(found, list) else []


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
