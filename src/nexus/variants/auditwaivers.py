"""Dated waivers of advisories, as they stand in the registry's ``waivers.yaml``.

    advisories:
      - advisory: PYSEC-2024-60          # any name of the vulnerability, or `not-audited`
        package: idna
        reason: only trusted host names reach it
        owner: "@octocat"
        expires: 2026-12-31

A waiver without reason, owner or date is no waiver: it is a finding, and it waives nothing. Pure; ``audit`` applies them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec

from nexus.kernel import documents
from nexus.kernel.documents import Finding
from nexus.variants import advisories

FILE = "waivers.yaml"
SECTION = "advisories"
NOT_AUDITED = "not-audited"
_FIELDS = ("advisory", "package", "reason", "owner", "expires")


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted risk: which vulnerability of which package, why, who answers for it, and until which day (that day included)."""

    advisory: str
    package: str
    reason: str
    owner: str
    expires: date
    line: int = 0

    def holds(self, today: date) -> bool:
        """Whether it has not expired."""
        return today <= self.expires

    def covers(self, package: str, names: tuple[str, ...]) -> bool:
        """Whether it is about this package and one of these names (case does not count)."""
        wanted = self.advisory.lower()
        return package == self.package and any(name.lower() == wanted for name in names)


def read(text: str, file: str = FILE) -> tuple[list[Waiver], list[Finding]]:
    """The waivers of the ``advisories`` section, and every finding with its place; other sections are left to their readers."""
    try:
        document = documents.load(text, file) if text.strip() else None
    except documents.DocumentError as error:
        return [], [error.finding]
    section = document.get(SECTION) if isinstance(document, dict) else None
    if section is None:
        return [], []
    if not isinstance(section, list):
        finding = Finding(
            code="NX-A20", file=file, message=f"`{SECTION}` is no list", hint="see docs/reference/audit.md", at=(SECTION,)
        )
        return [], documents.place([finding], {file: text})
    waivers: list[Waiver] = []
    findings: list[Finding] = []
    for index, entry in enumerate(section):
        wrong = _findings(entry, (SECTION, index), file)
        findings += wrong
        if not wrong:
            line, _ = documents.locate(text, (SECTION, index))
            waivers.append(_waiver(entry, line))
    return waivers, documents.place(findings, {file: text}) if findings else []


def _findings(entry: Any, at: documents.Path, file: str) -> list[Finding]:
    if not isinstance(entry, dict):
        return [Finding(code="NX-A20", file=file, message="a waiver is a mapping", hint=f"give {', '.join(_FIELDS)}", at=at)]
    found = [
        Finding(code="NX-A20", file=file, message=f"the waiver has no `{key}`", hint=f"a waiver has {', '.join(_FIELDS)}", at=at)
        for key in _FIELDS
        if not isinstance(entry.get(key), str) or not entry[key].strip()
    ]
    found += [
        Finding(
            code="NX-A20",
            file=file,
            message=f"a waiver has no field `{key}`",
            hint=f"a waiver has {', '.join(_FIELDS)}",
            at=(*at, str(key)),
        )
        for key in entry
        if key not in _FIELDS
    ]
    expires = entry.get("expires")
    if isinstance(expires, str) and expires.strip() and _day(expires) is None:
        found.append(
            Finding(
                code="NX-A20",
                file=file,
                message=f"`expires` is no day: `{expires[:40]}`",
                hint="write it as `2026-12-31`",
                at=(*at, "expires"),
            )
        )
    return found


def _day(text: str) -> date | None:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _waiver(entry: Mapping[str, str], line: int) -> Waiver:
    return Waiver(
        advisory=entry["advisory"].strip(), package=advisories.normalise(entry["package"].strip()), reason=entry["reason"].strip(),
        owner=entry["owner"].strip(), expires=date.fromisoformat(entry["expires"]), line=line,
    )  # fmt: skip
