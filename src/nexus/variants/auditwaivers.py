"""Dated waivers of advisories, as they stand in the registry's ``waivers.yaml``.

    advisories:
      - advisory: PYSEC-2024-60          # any name of the vulnerability, or `not-audited`
        package: idna
        reason: only trusted host names reach it
        owner: "@octocat"
        expires: 2026-12-31

A waiver without reason, owner or date is no waiver: it is a finding, and it waives nothing. Pure; ``audit`` applies them. The
file's form is described in `nexus.catalog.schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import msgspec

from nexus.catalog import manifests, schema, shapes
from nexus.kernel import documents
from nexus.kernel.documents import Finding
from nexus.variants import advisories

FILE = "waivers.yaml"
SECTION = "advisories"
NOT_AUDITED = "not-audited"


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
    """The waivers of the ``advisories`` section, and every finding with its place; other sections are left to their readers.

    The findings are those that `nexus validate catalog` has: one description of the file serves both.
    """
    document = manifests.read(file, text.encode(), schema.WAIVERS)
    ours = [one for one in document.findings if one.at[:1] in ((), (SECTION,))]
    findings = sorted(documents.place(ours, {file: text}), key=lambda one: (one.line, one.column)) if ours else []
    section = document.data.get(SECTION) if isinstance(document.data, dict) else None
    positions = documents.Positions(text)
    waivers = [
        _waiver(entry, positions.of((SECTION, index))[0])
        for index, entry in enumerate(section[: shapes.MOST] if isinstance(section, list) else [])
        if not shapes.check(entry, schema.ADVISORY_WAIVER, file)
    ]
    return waivers, findings


def _waiver(entry: Mapping[str, str], line: int) -> Waiver:
    return Waiver(
        advisory=entry["advisory"].strip(), package=advisories.normalise(entry["package"].strip()), reason=entry["reason"].strip(),
        owner=entry["owner"].strip(), expires=date.fromisoformat(entry["expires"]), line=line,
    )  # fmt: skip
