"""The declaration of variants as values: what a registry's own `pyproject.toml` says.

Variants stand where registries declare them — extras of `[project.optional-dependencies]`, `[tool.uv] conflicts` and
`[tool.uv.sources]` — and what we add stands in `[tool.nexus]`; a file without that table works. Every wrong entry becomes a
finding with its line. Used by every other module of this slice; it asks no resolver and reads no file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nexus.catalog import project as project_files
from nexus.catalog import rulebook
from nexus.kernel.documents import Finding, printable
from nexus.variants.ports import Target

FILE = "pyproject.toml"
NAMES = ("ecosystem", "candidate", "product")
WITH_ENGINE = ("candidate", "product")
PYTHONS = ("3.11", "3.12", "3.13")
DEFAULT_PLATFORM = "x86_64-manylinux_2_28"
_MAX_BYTES = 1024 * 1024
_MAX_REQUIREMENTS = 2000
_TOML_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_KEY = re.compile(r"""\s*(?:[\w.-]+|"[^"]*"|'[^']*')\s*=""")
_PLATFORM = re.compile(r"[a-z0-9_-]{3,64}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One requirement of a variant as it is written, and where."""

    text: str
    name: str  # normalised
    extras: frozenset[str] = frozenset()
    specifier: str = ""
    url: str = ""
    marker: str = ""
    line: int = 0
    column: int = 0

    def rewritten(self, *, specifier: str | None = None, extras: Iterable[str] | None = None) -> str:
        """The requirement with another specifier or other extras, and its marker as it was."""
        kept = sorted(self.extras if extras is None else extras)
        named = f"{self.name}[{','.join(kept)}]" if kept else self.name
        bounds = self.specifier if specifier is None else specifier
        ordered = ",".join(sorted(bounds.split(","), reverse=True)) if bounds else ""
        return f"{named}{ordered}" + (f" ; {self.marker}" if self.marker else "")

    @property
    def pinned(self) -> str:
        """The version a single ``==`` names; empty otherwise."""
        parts = [part for part in SpecifierSet(self.specifier) if part.operator == "==" and not part.version.endswith(".*")]
        return parts[0].version if len(parts) == 1 else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One variant: its own requirements and those every variant has."""

    name: str
    requirements: tuple[Asked, ...]
    line: int = 0

    def of(self, package: str) -> tuple[Asked, ...]:
        """What this variant asks of *package*."""
        return tuple(asked for asked in self.requirements if asked.name == package)


@dataclass(frozen=True, kw_only=True, slots=True)
class Advisories:
    """``[tool.nexus.advisories]``: where the snapshot is, where `update` gets it, when it is too old (None: by default)."""

    snapshot: str = ""
    source: str = ""
    max_age: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What `[tool.nexus]` adds; the defaults are those of a registry that says nothing."""

    engine: str = "vllm"
    engine_pin: str = ""  # of the product variant; empty: what its extra pins
    candidate: str = "latest"  # or `any`: the candidate need not follow the engine's latest release
    targets: tuple[Target, ...] = ()
    exclude_newer: str = ""
    build: bool = False
    severities: Mapping[str, str] = field(default_factory=dict)
    advisories: Advisories | None = field(default_factory=Advisories)  # None: the table cannot be used


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """All variants of one registry at one moment, and what is wrong with how they are declared."""

    name: str = ""
    requires_python: str = ""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    python_line: int = 0  # of `requires-python`
    uv: Mapping[str, Any] = field(default_factory=dict)  # the `[tool.uv]` table as written
    rules: Rules = field(default_factory=Rules)
    findings: tuple[Finding, ...] = ()

    @property
    def lowest_python(self) -> str:
        """The lowest Python that `requires-python` allows, such as ``3.11``."""
        return _lowest(self.requires_python)

    @property
    def usable(self) -> bool:
        return bool(self.variants) and not any(finding.severity == "error" for finding in self.findings)


def read(text: str, file: str = FILE) -> Declaration:
    """The declaration in a `pyproject.toml`; what cannot be used is missing in it and stands in its findings."""
    if len(text) > _MAX_BYTES:
        return Declaration(findings=(Finding(code="NX-V01", file=file, message=f"the file is larger than {_MAX_BYTES} bytes"),))
    text = text.removeprefix("\ufeff")  # a byte order mark, which `uv` passes over as well
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.search(str(error))
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        message = f"not valid TOML: {_TOML_PLACE.sub('', str(error)).strip()}"
        return Declaration(findings=(Finding(code="NX-V01", file=file, line=line, column=column, message=message),))
    except RecursionError:
        return Declaration(findings=(Finding(code="NX-V01", file=file, message="not valid TOML: nested too deep"),))
    return _Reader(text, document, file).declaration()


class _Reader:
    """Reads one parsed document and collects every finding."""

    def __init__(self, text: str, document: dict[str, Any], file: str) -> None:
        self.lines = text.splitlines()
        self.file = file
        self.findings: list[Finding] = []
        self.project = self._table(document, "project")
        tool = self._table(document, "tool")
        self.uv = self._table(tool, "uv", "tool.uv")
        self.nexus = self._table(tool, "nexus", "tool.nexus")

    def declaration(self) -> Declaration:
        name = canonicalize_name(str(self.project.get("name", "")) or "registry")
        variants = self._variants(name)
        requires_python = self._requires_python()
        self._conflicts(variants)
        return Declaration(
            name=name, requires_python=requires_python, variants=variants, uv=self.uv,
            python_line=self._key_line("project", "requires-python"),
            rules=self._rules(requires_python), findings=tuple(self.findings),
        )  # fmt: skip

    def _variants(self, project: str) -> dict[str, Variant]:
        extras = self._table(self.project, "optional-dependencies", "project.optional-dependencies")
        shared = self._requirements(self.project.get("dependencies", []), "project", "dependencies")
        found = {}
        for name in NAMES:
            if name in extras:
                own = self._expanded(extras, name, project)
                found[name] = Variant(name=name, requirements=(*shared, *own), line=self._line_of(name))
        if not found:
            self._add(
                "NX-V02",
                "no variant is declared",
                hint="add extras `ecosystem`, `candidate`, `product` to `[project.optional-dependencies]`",
            )
        return found

    def _expanded(self, extras: dict[str, Any], extra: str, project: str) -> Iterator[Asked]:
        """The extra's requirements; a reference to the project itself (`registry[cli]`) stands for that extra's."""
        for name in project_files.included(extras, extra, project):
            for asked in self._requirements(extras[name], "project.optional-dependencies", name):
                if asked.name != project:
                    yield asked

    def _requirements(self, entries: Any, table: str, key: str) -> tuple[Asked, ...]:
        if not isinstance(entries, list):
            self._add("NX-V03", f"`{key}` is not a list of requirements", line=self._key_line(table, key))
            return ()
        if len(entries) > _MAX_REQUIREMENTS:
            self._add(
                "NX-V03",
                f"`{key}` has {len(entries)} requirements; at most {_MAX_REQUIREMENTS} are read",
                line=self._key_line(table, key),
            )
            return ()
        return tuple(asked for entry in entries if (asked := self._asked(entry, table, key)) is not None)

    def _asked(self, entry: Any, table: str, key: str) -> Asked | None:
        line, column = self._place(table, key, entry) if isinstance(entry, str) else (self._key_line(table, key), 0)
        try:
            requirement = Requirement(entry) if isinstance(entry, str) else None
        except InvalidRequirement as error:
            self._add("NX-V03", f"`{_clip(entry)}` is not a requirement: {str(error).splitlines()[0]}", line=line, column=column,
                      hint="write `name`, `name>=1.2` or `name[extra]==1.2`")  # fmt: skip
            return None
        if requirement is None:
            self._add("NX-V03", f"an entry of `{key}` is not a text", line=line)
            return None
        url = requirement.url or ""
        if url and not url.startswith(("https://", "git+https://", "git+ssh://")):
            message = f"`{_clip(entry)}` points outside an index and outside Git over https or ssh"
            self._add("NX-V03", message, line=line, column=column, hint="use a release, or a Git source in `[tool.uv.sources]`")
            return None
        extras = frozenset(canonicalize_name(extra) for extra in requirement.extras)
        specifier, name = str(requirement.specifier), canonicalize_name(requirement.name)
        marker = str(requirement.marker or "")
        return Asked(text=entry, name=name, extras=extras, specifier=specifier, url=url, marker=marker, line=line, column=column)

    def _requires_python(self) -> str:
        value = self.project.get("requires-python", "")
        try:
            return str(SpecifierSet(value)) if isinstance(value, str) else self._wrong_python(value)
        except InvalidSpecifier:
            return self._wrong_python(value)

    def _wrong_python(self, value: Any) -> str:
        self._add("NX-V03", f"`requires-python` cannot be `{_clip(value)}`", line=self._key_line("project", "requires-python"),
                  hint='write for example `">=3.11"`')  # fmt: skip
        return ""

    def _conflicts(self, variants: Mapping[str, Variant]) -> None:
        """uv refuses to lock variants together unless they are declared as excluding one another."""
        groups = self.uv.get("conflicts", [])
        named = [
            {entry["extra"] for entry in group if isinstance(entry, dict) and isinstance(entry.get("extra"), str)}
            for group in (groups if isinstance(groups, list) else []) if isinstance(group, list)
        ]  # fmt: skip
        if len(variants) > 1 and not any(set(variants) <= group for group in named):
            entry = ", ".join(f'{{ extra = "{name}" }}' for name in variants)
            message = "`[tool.uv] conflicts` does not name all variants as excluding one another"
            hint = f"write `conflicts = [[{entry}]]` in `[tool.uv]`"
            self._add("NX-V04", message, severity="warning", line=self._key_line("tool.uv", "conflicts"), hint=hint)

    def _rules(self, requires_python: str) -> Rules:
        settings = self.nexus
        candidate = self._text(settings, "candidate", "latest")
        if candidate not in ("latest", "any"):
            self._setting("candidate", candidate, "write `latest` or `any`")
        pin = self._text(settings, "product", "")
        try:
            Version(pin or "0")
        except InvalidVersion:
            self._setting("product", pin, "write the engine version of the product variant, such as `0.24.0`")
            pin = ""
        newer = str(settings.get("exclude-newer", "") or self.uv.get("exclude-newer", ""))
        if newer and not _DATE.fullmatch(newer) and "exclude-newer" in settings:
            self._setting("exclude-newer", newer, "write a date such as `2026-11-01`")
            newer = ""
        if re.fullmatch(r"\d{4}-\d\d-\d\d", newer):
            newer += "T00:00:00Z"  # a bare date is a local one to uv, and pins must not depend on where they are made
        build = settings.get("build", False)
        if not isinstance(build, bool):
            self._setting("build", build, "write `true` or `false`")
        return Rules(
            engine=canonicalize_name(self._text(settings, "engine", "vllm")), engine_pin=pin, candidate=candidate,
            targets=self._targets(requires_python), exclude_newer=newer, build=build is True, severities=self._severities(),
            advisories=self._advisories(),
        )  # fmt: skip

    def _advisories(self) -> Advisories | None:
        name, before = "tool.nexus.advisories", len(self.findings)
        table = self._table(self.nexus, "advisories", name)
        days = table.get("max-age-days")
        if days is not None and (type(days) is not int or not 0 < days < 36_500):
            self._setting("max-age-days", days, "write a number of days, such as `30`", name)
            days = None
        snapshot, source = (self._text(table, key, "", name) for key in ("snapshot", "source"))
        for key in sorted(table.keys() - {"snapshot", "source", "max-age-days"}):
            message = f"`[{name}]` has no setting `{_clip(key)}`"
            self._add("NX-V05", message, line=self._key_line(name, key), hint="it has `snapshot`, `source` and `max-age-days`")
        if len(self.findings) > before:
            return None
        return Advisories(snapshot=snapshot, source=source, max_age=timedelta(days=days) if days is not None else None)

    def _targets(self, requires_python: str) -> tuple[Target, ...]:
        allowed = SpecifierSet(requires_python)
        pythons = self._list("python", [version for version in PYTHONS if f"{version}.99" in allowed] or [_lowest(requires_python)])
        platforms = self._list("platforms", [DEFAULT_PLATFORM])
        pythons = [
            value
            for value in pythons
            if re.fullmatch(r"3\.\d{1,2}", value) or self._setting("python", value, "write for example `3.12`")
        ]
        platforms = [
            value
            for value in platforms
            if _PLATFORM.fullmatch(value) or self._setting("platforms", value, f"write for example `{DEFAULT_PLATFORM}`")
        ]
        return tuple(Target(python=python, platform=platform) for python in pythons for platform in platforms)

    def _severities(self) -> dict[str, str]:
        """The severities this registry gives rules; names and codes of other slices are theirs to check."""
        found = {}
        for code, value in self._table(self.nexus, "rules", "tool.nexus.rules").items():
            if value in rulebook.SEVERITIES:
                found[code] = value
            elif code.startswith("NX-V"):
                message = f"the severity of `{code}` cannot be `{_clip(value)}`"
                line = self._key_line("tool.nexus.rules", code)
                self._add("NX-V05", message, line=line, hint="write `error`, `warning` or `off`")
        return found

    def _list(self, key: str, default: list[str]) -> list[str]:
        value = self.nexus.get(key, default)
        if isinstance(value, list) and len(value) <= 16 and all(isinstance(item, str) for item in value):
            return value
        self._setting(key, value, "write a list of texts")
        return default

    def _text(self, table: Mapping[str, Any], key: str, default: str, name: str = "tool.nexus") -> str:
        value = table.get(key, default)
        if isinstance(value, str) and len(value) <= 200:
            return value
        self._setting(key, value, "write a text", name)
        return default

    def _setting(self, key: str, value: Any, hint: str, table: str = "tool.nexus") -> bool:
        self._add("NX-V05", f"`[{table}] {key}` cannot be `{_clip(value)}`", line=self._key_line(table, key), hint=hint)
        return False

    def _table(self, parent: Mapping[str, Any], key: str, shown: str = "") -> dict[str, Any]:
        value = parent.get(key, {})
        if isinstance(value, dict):
            return value
        self._add("NX-V03", f"`{shown or key}` is not a table")
        return {}

    def _add(self, code: str, message: str, *, line: int = 0, column: int = 0, hint: str = "", severity: str = "error") -> None:
        self.findings.append(
            Finding(code=code, file=self.file, line=line, column=column, message=message, hint=hint, severity=severity)
        )  # fmt: skip

    # Positions: the TOML readers keep none, so a value is looked for below its key, and its key below its table's header.

    def _line_of(self, variant: str) -> int:
        return self._key_line("project.optional-dependencies", variant)

    def _key_line(self, table: str, key: str) -> int:
        start = next((number for number, line in enumerate(self.lines) if _header(line) == table), None)
        if start is None:
            return 0
        for number in range(start + 1, len(self.lines)):
            line = self.lines[number].strip()
            if line.startswith("["):
                break
            if re.match(rf"[\"']?{re.escape(key)}[\"']?\s*=", line):
                return number + 1
        return start + 1

    def _place(self, table: str, key: str, value: str) -> tuple[int, int]:
        first = self._key_line(table, key)
        for number in range(max(first - 1, 0), len(self.lines)):
            code = self.lines[number]
            if number > first - 1 and (_header(code) or _KEY.match(code)):
                break
            for literal in (f'"{value}"', f"'{value}'", '"' + value.replace('"', '\\"') + '"'):
                column = code.find(literal)
                if column >= 0 and "#" not in code[:column]:
                    return number + 1, column + 1
        return first, 0


def _header(line: str) -> str:
    match = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$", line)
    return match[1].replace('"', "").replace(" ", "") if match else ""


def _lowest(requires_python: str) -> str:
    allowed = SpecifierSet(requires_python)
    return next((f"3.{minor}" for minor in range(8, 40) if f"3.{minor}.99" in allowed or f"3.{minor}" in allowed), PYTHONS[0])


def _clip(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= 80 else text[:77] + "…"
