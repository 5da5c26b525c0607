"""What the catalogue needs of the registry's ``pyproject.toml``: who is in which variant, and how severe each rule is.

The declaration of variants itself is the business of ``nexus.variants``; here a requirement's name is enough. TOML readers
keep no positions, so a value is looked for in the text only when a finding is about it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from nexus.catalog import rulebook
from nexus.catalog.files import PROJECT
from nexus.catalog.formats import normalise
from nexus.catalog.schema import VARIANTS
from nexus.kernel import documents
from nexus.kernel.documents import DocumentError, Finding, shown

_MOST_SETTINGS = 200  # there are fewer rules than that
_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_EXTRAS = re.compile(r"\[([^\]]*)\]")
_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")

UNREADABLE = rulebook.enter(
    "NX-C083", "project-unreadable", "The registry's pyproject.toml cannot be read", scope="registry",
    text="Variants and the registry's own severities are declared in it; while it cannot be read, neither is known.",
    hint="correct the TOML at this place",
)  # fmt: skip
SETTING = rulebook.enter(
    "NX-C082", "setting-unknown", "A setting of the rules is not understood", scope="registry",
    text="`[tool.nexus.rules]` gives codes or names of rules the severity `error`, `warning` or `off`. A mistyped one would "
    "silently "
    "change nothing.",
    hint='write `NX-C033 = "error"` or `package-owner-missing = "error"`; the reference of rules lists codes and names',
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """``members``: variant → normalised package name → requirement as written; empty when no variant is declared."""

    present: bool = False
    text: str = ""
    members: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    severities: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def variants_of(self, name: str) -> tuple[str, ...]:
        """The variants in which the package of this name stands, in their usual order."""
        normal = normalise(name)
        return tuple(variant for variant, members in self.members.items() if normal in members)

    def line_of(self, variant: str, name: str = "") -> int:
        """The line of a variant's extra, or of a package in it; 0 when it is not found."""
        lines = self.text.splitlines()
        start = next((n for n, line in enumerate(lines) if re.match(rf"\s*[\"']?{re.escape(variant)}[\"']?\s*=", line)), None)
        if start is None:
            return 0
        for number in range(start, len(lines)) if name else ():
            if number > start and re.match(r"\s*(\[|[\w\"'.-]+\s*=)", lines[number]):
                break
            if any(
                normalise(match) == normalise(name) for match in re.findall(r"[\"']\s*([A-Za-z0-9][A-Za-z0-9._-]*)", lines[number])
            ):
                return number + 1
        return start + 1


def read(data: bytes | None) -> Project:
    """The project file; what is wrong with it stands in its findings."""
    if data is None:
        return Project()
    try:
        text = documents.decode(data, PROJECT)
        document = tomllib.loads(text)
    except DocumentError as error:
        return Project(present=True, findings=(error.finding,))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        match = _PLACE.search(str(error))
        line, column = (int(match[1]), int(match[2])) if match else (0, 0)
        reason = _PLACE.sub("", str(error)).strip() if match else "it ends too early, or is nested too deep"
        finding = Finding(code=UNREADABLE, file=PROJECT, line=line, column=column, message=f"not valid TOML: {reason}",
                          hint=rulebook.RULES[UNREADABLE].hint)  # fmt: skip
        return Project(present=True, findings=(finding,))
    severities, findings = _severities(_table(document, "tool", "nexus", "rules"), text)
    unusable = list(_wrong_types(document, text))
    extras = _table(document, "project", "optional-dependencies")
    own = str(_table(document, "project").get("name", ""))
    members = {}
    for name in VARIANTS if not unusable else ():  # of extras that cannot be used nobody knows the members
        if name in extras:
            lists = [_table(document, "project").get("dependencies"), *(extras[one] for one in included(extras, name, own))]
            members[name] = {member: text for one in lists for member, text in _named(one) if not own or member != normalise(own)}
    return Project(present=True, text=text, members=members, severities=severities, findings=(*findings, *unusable))


def included(extras: Mapping[str, Any], extra: str, own: str) -> tuple[str, ...]:
    """The extra, and those that it includes by requirements of the registry itself (`registry[geo]`), as declared, once each."""
    declared = {normalise(name): name for name in extras}
    found = {extra: None}
    ahead = [extra]
    while ahead and own:
        mine = [text for name, text in _named(extras[ahead.pop()]) if name == normalise(own)]
        parts = [part for text in mine for match in _EXTRAS.finditer(text) for part in match[1].split(",")]
        others = [declared.get(normalise(part.strip())) for part in parts]
        fresh = {other: None for other in others if other is not None and other not in found}
        found |= fresh
        ahead += fresh
    return tuple(found)


def _named(requirements: Any) -> list[tuple[str, str]]:
    """The normalised name and the text of each requirement in a list."""
    texts = [one for one in requirements if isinstance(one, str)] if isinstance(requirements, list) else []
    return [(normalise(match[1]), one) for one in texts if (match := _NAME.match(one))]


def _wrong_types(document: Mapping[str, Any], text: str) -> Iterator[Finding]:
    """What is read here and is not of its type; `nexus variants check` looks at the requirements themselves."""
    for keys in (("project",), ("project", "optional-dependencies"), ("tool",), ("tool", "nexus"), ("tool", "nexus", "rules")):
        parent = _table(document, *keys[:-1])
        if keys[-1] in parent and not isinstance(parent[keys[-1]], dict):
            yield _unusable(".".join(keys), "a table", keys[-1], text)
    extras = _table(document, "project", "optional-dependencies")
    for name in VARIANTS:
        if name in extras and not (isinstance(extras[name], list) and all(isinstance(one, str) for one in extras[name])):
            yield _unusable(f"project.optional-dependencies.{name}", "a list of requirements", name, text)


def _unusable(name: str, meant: str, key: str, text: str) -> Finding:
    line = _line_of_key(key, text)
    return Finding(code=UNREADABLE, file=PROJECT, line=line, message=f"{shown(name)} is not {meant}", hint=f"write {meant}")


def _severities(table: Mapping[str, Any], text: str) -> tuple[dict[str, str], list[Finding]]:
    found: dict[str, str] = {}
    findings = []
    for key, value in islice(table.items(), _MOST_SETTINGS):
        ours = not key.startswith("NX") or key.startswith("NX-C")
        if ours and rulebook.find(key) is None:
            close = rulebook.suggestion(key, [*rulebook.RULES, *(one.name for one in rulebook.RULES.values())])
            findings.append(_setting(f"there is no rule {shown(key)}", f"did you mean `{close}`?" if close else "", key, text))
        elif value not in rulebook.SEVERITIES:
            findings.append(
                _setting(f"the severity of {shown(key)} cannot be {shown(value)}", "write `error`, `warning` or `off`", key, text)
            )
        else:
            found[key] = value
    return found, findings


def _setting(message: str, hint: str, key: str, text: str) -> Finding:
    line = _line_of_key(key, text)
    return Finding(code=SETTING, file=PROJECT, line=line, message=message, hint=hint or rulebook.RULES[SETTING].hint)


def _line_of_key(key: str, text: str) -> int:
    return next((n for n, one in enumerate(text.splitlines(), 1) if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", one)), 0)


def _table(value: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
