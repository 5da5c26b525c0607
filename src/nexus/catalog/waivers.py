"""Findings that are accepted for a time: by code, place, owner, reason and expiry date, in ``waivers.yaml`` of the registry.

A waiver holds until its last day, that day included. Expired, useless and mistyped ones are findings themselves and cannot be
waived. Pure; the day is an argument. What the ``advisories`` section of the same file accepts is applied by ``nexus.variants``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from nexus.catalog import files as places
from nexus.catalog import rulebook, schema, shapes
from nexus.catalog.manifests import Document
from nexus.catalog.rulebook import Problem
from nexus.kernel.documents import Finding, shown

LONGEST = timedelta(days=366)
_PREFIX = "NX-C09"
_OF_YAML = frozenset(f"NX-Y0{number}" for number in range(1, 8))  # `nexus.kernel.documents`

EXPIRED = rulebook.enter(
    "NX-C090",
    "waiver-expired",
    "A waiver has expired",
    scope="registry",
    text="What it accepted counts again from the day after its last one. A waiver is a promise to mend something by a date.",
    hint="mend what it waived and remove it, or agree on a new date",
)
UNUSED = rulebook.enter(
    "NX-C091",
    "waiver-unused",
    "A waiver waives nothing",
    scope="registry",
    severity="warning",
    text="No finding of its code stands at its path: it was mended, moved, or never there. Left behind it would hide the next one.",
    hint="remove it",
)
DISTANT = rulebook.enter(
    "NX-C092",
    "waiver-distant",
    "A waiver holds for more than a year",
    scope="registry",
    severity="warning",
    text="An exception nobody looks at for a year is a rule.",
    hint="choose a day within a year; it can be renewed",
)
UNKNOWN = rulebook.enter(
    "NX-C093",
    "waiver-code",
    "A waiver names a code that does not exist",
    scope="registry",
    text="A mistyped code waives nothing, silently. Only findings of the catalogue (`NX-C…`, `NX-Y…`) are waived here, and none "
    "about waivers: vulnerabilities are waived in the section `advisories`, and how severe a rule of variants is stands in "
    "`[tool.nexus.rules]`.",
    hint="the reference of rules lists the codes",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiver:
    """One accepted finding. ``path`` is a file or folder; empty means the whole registry."""

    code: str
    path: str
    owner: str
    reason: str
    expires: date
    index: int

    def covers(self, finding: Finding) -> bool:
        """Whether it is about this finding; the date does not count here."""
        return finding.code == self.code and (
            not self.path or finding.file == self.path or finding.file.startswith(f"{self.path}/")
        )


@dataclass(frozen=True, slots=True)
class Waived:
    """A finding with the waiver that covers it."""

    finding: Finding
    waiver: Waiver


def read(document: Document | None) -> list[Waiver]:
    """The waivers of the file that are whole; the others have findings of the file's shape."""
    data = document.data if document is not None else None
    entries = data.get("waivers") if isinstance(data, dict) else None
    return [
        Waiver(
            code=entry["code"],
            path=(entry.get("path") or "").removeprefix("./").rstrip("/"),
            owner=entry["owner"],
            reason=entry["reason"],
            expires=date.fromisoformat(entry["expires"]),
            index=index,
        )
        for index, entry in enumerate(entries[: shapes.MOST] if isinstance(entries, list) else [])
        if all(problem.code == shapes.EMPTY for problem in shapes.check(entry, schema.WAIVER, places.WAIVERS))
    ]


def apply(findings: Sequence[Finding], waivers: Sequence[Waiver], today: date) -> tuple[list[Finding], list[Waived]]:
    """The findings that count, and those that are waived on this day."""
    active: list[Finding] = []
    waived: list[Waived] = []
    for finding in findings:
        cover = next((one for one in waivers if today <= one.expires and one.covers(finding)), None)
        if cover is None or finding.code.startswith(_PREFIX):
            active.append(finding)
        else:
            waived.append(Waived(finding, cover))
    return active, waived


def problems(waivers: Sequence[Waiver], waived: Sequence[Waived], today: date) -> Iterator[Problem]:
    """What is wrong with the waivers themselves, seen after they were applied."""
    used = {one.waiver.index for one in waived}
    for one in waivers:
        at = ("waivers", one.index)
        if not _can_be_waived(one.code):
            rule = next((rule for rule in rulebook.RULES.values() if rule.name == one.code), None)
            hint = f"write its code: `{rule.code}`" if rule is not None else ""
            yield Problem(places.WAIVERS, f"{shown(one.code)} cannot be waived here", (*at, "code"), hint, code=UNKNOWN)
        elif today > one.expires:
            yield Problem(
                places.WAIVERS,
                f"the waiver of {shown(one.code)} by {shown(one.owner)} expired on {one.expires}",
                (*at, "expires"),
                code=EXPIRED,
            )
        elif one.index not in used:
            place = f" at {shown(one.path)}" if one.path else ""
            yield Problem(places.WAIVERS, f"there is no {shown(one.code)}{place} to waive", (*at, "code"), code=UNUSED)
        elif one.expires - today > LONGEST:
            yield Problem(
                places.WAIVERS, f"the waiver of {shown(one.code)} holds until {one.expires}", (*at, "expires"), code=DISTANT
            )


def _can_be_waived(code: str) -> bool:
    known = code in rulebook.RULES and code.startswith("NX-C") and not code.startswith(_PREFIX)
    return known or code in _OF_YAML
