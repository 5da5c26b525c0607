"""Advisories in OSV form as values, and the rule that says whether a version is affected.

A record of any OSV source (schema 1.x) becomes one :class:`Advisory` for each PyPI package it names; what cannot be read is
a finding, never left out in silence. Pure: the adapters read folders, archives and services; ``audit`` asks :func:`match`.

Codes of findings: NX-A01 not a record · NX-A02 id · NX-A03 affected · NX-A04 package · NX-A05 ranges and versions ·
NX-A06 the same id twice · NX-A07 cannot be decided (warning) · NX-A08 severity (warning) · NX-A09 file, link or size · NX-A10 dates

Source: OSV schema, https://ossf.github.io/osv-schema/ (section "Evaluation").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nexus.kernel import documents
from nexus.kernel.documents import Finding, Path, printable

ECOSYSTEM = "PyPI"
EVENTS = ("introduced", "fixed", "last_affected", "limit")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}")
_NAME = re.compile(r"[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]{0,213}[A-Za-z0-9]")
_LINK = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?([/?#]([A-Za-z0-9._~:/?#@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")
_NUMBER = r"(?:0|[1-9]\d*)"
_NORMAL = re.compile(
    rf"(?:[1-9]\d*!)?{_NUMBER}(?:\.{_NUMBER})*(?:(?:a|b|rc){_NUMBER})?(?:\.post{_NUMBER})?(?:\.dev{_NUMBER})?"
)  # fmt: skip
_COMPONENTS = 8  # trailing zeros are compared up to this many components
_SUMMARY = 300
_MAX_ITEMS = 20_000


class Advisory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one record says of one PyPI package. ``package`` is the normalised name.

    ``versions`` are :func:`spelled`; ``ranges`` hold (event, version) pairs; ``fixes`` are fixed versions of a source without
    ranges; ``undecided`` says why a version outside ``versions`` cannot be judged.
    """

    id: str
    package: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    severity: tuple[tuple[str, str], ...] = ()
    ranges: tuple[tuple[tuple[str, str], ...], ...] = ()
    versions: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()
    undecided: str = ""
    published: str = ""
    modified: str = ""
    withdrawn: str = ""
    url: str = ""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """How an advisory meets a version: affected or not, the versions that fix it, or why nobody can say."""

    affected: bool
    fixed_in: tuple[str, ...] = ()
    last_affected: str = ""
    undecided: str = ""


def match(advisory: Advisory, version: Version) -> Match:
    """Whether *version* is affected, by the OSV rule: listed, or in a range. Local labels (``+cu121``) count as their release."""
    fixed: list[Version] = [fix for text in advisory.fixes if (fix := parse(text)) is not None and fix > version]
    inside, last = False, ""
    for events in advisory.ranges:
        hit, ends, through = _inside(events, version)
        inside = inside or hit
        fixed.extend(end for end in ends if end > version)
        last = through or last
    listed = _listed(advisory, version)
    affected = inside or listed
    if affected and not inside:  # listed and in no range, as pre-releases often are: any later fix may be one
        fixed += [
            end for events in advisory.ranges for kind, text in events if kind == "fixed" and (end := parse(text)) and end > version
        ]
    return Match(
        affected=affected,
        fixed_in=tuple(str(item) for item in sorted(set(fixed))) if affected else (),
        last_affected=last if affected else "",
        undecided="" if affected else advisory.undecided,
    )


@lru_cache(maxsize=65_536)
def parse(text: str) -> Version | None:
    """The version, or None when *text* is none by PEP 440."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def normalise(name: str) -> str:
    """The name as PEP 503 compares it."""
    return canonicalize_name(name)


def is_name(name: str) -> bool:
    """Whether *name* can be a Python package's name (PEP 508), short enough to be one."""
    return _NAME.fullmatch(name) is not None


def _listed(advisory: Advisory, version: Version) -> bool:
    return bool(advisory.versions) and not _spellings(version).isdisjoint(advisory.versions)


@lru_cache(maxsize=65_536)
def _spellings(version: Version) -> frozenset[str]:
    """The normal spellings of a version and of its public release: equal versions differ in trailing zeros only."""
    found = {str(version)}
    public = _public(version)
    release = list(public.release)
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    rest = public.public.removeprefix(f"{public.epoch}!").removeprefix(".".join(map(str, public.release)))
    epoch = f"{public.epoch}!" if public.epoch else ""
    for zeros in range(max(_COMPONENTS - len(release), 0) + 1):
        found.add(epoch + ".".join(map(str, [*release, *[0] * zeros])) + rest)
    return frozenset(found)


def spelled(text: str) -> str:
    """A listed version in its normal spelling, which is what :func:`match` compares; as it is when it is no version."""
    if _NORMAL.fullmatch(text):
        return text
    version = parse(text)
    return text if version is None else str(version)


def _inside(events: tuple[tuple[str, str], ...], version: Version) -> tuple[bool, list[Version], str]:
    """Whether *version* lies in the range, the fix that ends its interval, and the last affected version of it."""
    ordered = sorted(
        ((None if (kind, text) == ("introduced", "0") else parse(text), kind, text) for kind, text in events), key=_event_order
    )
    inside = False
    for bound, kind, text in ordered:
        if kind == "introduced":
            inside = inside or bound is None or _seen(version, bound) >= bound
        elif bound is None:
            continue
        elif kind == "last_affected":
            if inside and _seen(version, bound) <= bound:
                return True, [], text
            inside = False
        else:
            if inside and _seen(version, bound) < bound:
                return True, [bound] if kind == "fixed" else [], ""
            inside = False
    return inside, [], ""


def _event_order(event: tuple[Version | None, str, str]) -> tuple[bool, Version, int]:
    """By version, ``0`` first; at one version the end of an interval comes before the start of the next."""
    bound, kind, _ = event
    rank = {"fixed": 0, "limit": 0, "introduced": 1, "last_affected": 2}[kind]
    return (bound is not None, bound if bound is not None else _ZERO, rank)


_ZERO = Version("0")


def _seen(version: Version, bound: Version) -> Version:
    """The version as this bound sees it: a local build counts as its public release unless the bound names a local one."""
    return version if bound.local else _public(version)


def _public(version: Version) -> Version:
    return Version(version.public) if version.local else version


# ── reading a record ──────────────────────────────────────────────────────────────────────────────────────────────────


def read_text(text: str, file: str) -> tuple[list[Advisory], list[Finding]]:
    """The advisories of one file, JSON or YAML, with every finding placed at its line and column."""
    try:
        record = _load(text, file)
    except documents.DocumentError as error:
        return [], [error.finding]
    found, findings = read_record(record, file)
    return found, documents.place(findings, {file: text}) if findings else findings


def _load(text: str, file: str) -> Any:
    if file.endswith(".json"):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise documents.DocumentError(Finding(code="NX-A01", file=file, message=f"not valid JSON: {error}")) from error
        except RecursionError as error:
            raise documents.DocumentError(Finding(code="NX-A01", file=file, message="the record is nested too deep")) from error
    return documents.load(text, file) if text.strip() else None


def read_record(record: Any, file: str) -> tuple[list[Advisory], list[Finding]]:
    """One advisory a PyPI package the record names, and all findings. Records of other ecosystems give neither."""
    report = _Report(file)
    if not isinstance(record, dict):
        report.error("NX-A01", "the file is no OSV record: it is no mapping", (), "a record has `id` and `affected`")
        return [], report.findings
    if record and not {"id", "affected", "aliases"} & record.keys():
        report.warn("NX-A01", "the file is no OSV record (it has neither `id` nor `affected`) and was left out", ())
        return [], report.findings
    identity = record.get("id")
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        report.error(
            "NX-A02",
            f"`id` is missing or is no identifier: `{str(identity)[:80]}`",
            ("id",),
            "OSV records have an `id` such as `PYSEC-2024-60`",
        )
        identity = ""
    common = {
        "id": identity,
        "aliases": report.strings(record.get("aliases"), ("aliases",), "NX-A02"),
        "summary": _summary(record),
        "severity": _severity(record.get("severity"), ("severity",), report),
        "url": _url(record.get("references")),
        **{key: report.date(record.get(key), key) for key in ("published", "modified", "withdrawn")},
    }
    affected = record.get("affected")
    if not isinstance(affected, list) or not affected:
        # a withdrawn record may have been emptied by its owner: nothing is claimed any more
        if not common["withdrawn"]:
            report.error(
                "NX-A03", "`affected` is missing or is no list with entries", ("affected",), "name the package and its versions"
            )
        return [], report.findings
    advisories = _affected(affected, common, report)
    return ([] if report.failed else advisories), report.findings


def _affected(affected: list[Any], common: dict[str, Any], report: _Report) -> list[Advisory]:
    merged: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(affected[:_MAX_ITEMS]):
        at: Path = ("affected", index)
        package = entry.get("package") if isinstance(entry, dict) else None
        if not isinstance(package, dict):
            report.error("NX-A04", "an entry of `affected` names no package", at, "give `package: {ecosystem, name}`")
            continue
        ecosystem, name = package.get("ecosystem"), package.get("name")
        if not isinstance(ecosystem, str):
            report.error(
                "NX-A04",
                "`package.ecosystem` is missing",
                (*at, "package"),
                f"it is `{ecosystem}`; packages of the index have `PyPI`",
            )
            continue
        if ecosystem.partition(":")[0] != ECOSYSTEM:
            continue
        if not isinstance(name, str) or not is_name(name):
            report.error("NX-A04", f"`package.name` is no name of a Python package: `{str(name)[:80]}`", (*at, "package", "name"))
            continue
        slot = merged.setdefault(normalise(name), {"ranges": [], "versions": [], "severity": common["severity"], "undecided": ""})
        _versions(entry, at, slot, report)
        if "severity" in entry:
            slot["severity"] = (*slot["severity"], *_severity(entry["severity"], (*at, "severity"), report))
    return [
        Advisory(**{**common, "package": name, "ranges": tuple(slot["ranges"]), "versions": tuple(dict.fromkeys(slot["versions"])),
                    "severity": slot["severity"], "undecided": slot["undecided"]})
        for name, slot in merged.items()
    ]  # fmt: skip


def _versions(entry: Mapping[str, Any], at: Path, slot: dict[str, Any], report: _Report) -> None:
    """Adds ranges and listed versions of one entry; says so when they cannot decide."""
    slot["versions"].extend(spelled(item) for item in report.strings(entry.get("versions"), (*at, "versions"), "NX-A05"))
    ranges = entry.get("ranges", [])
    if not isinstance(ranges, list) or not all(isinstance(item, dict) for item in ranges):
        report.error("NX-A05", "`ranges` is no list of mappings", (*at, "ranges"))
        return
    usable = False
    for index, item in enumerate(ranges[:_MAX_ITEMS]):
        place = (*at, "ranges", index)
        kind = item.get("type")
        if kind == "GIT":
            continue  # commits say nothing about versions of the index
        if kind not in ("ECOSYSTEM", "SEMVER"):
            report.error("NX-A05", f"range type `{kind}` is not `ECOSYSTEM`, `SEMVER` or `GIT`", (*place, "type"))
            continue
        events = _events(item.get("events"), (*place, "events"), slot, report)
        if events:
            usable = True
            slot["ranges"].append(events)
    if not usable and not entry.get("versions") and not slot["undecided"]:
        slot["undecided"] = "the record names no versions"
        report.warn("NX-A07", "the record names no versions of the package: its pins are reported as not audited", at)


def _events(events: Any, at: Path, slot: dict[str, Any], report: _Report) -> tuple[tuple[str, str], ...]:
    if not isinstance(events, list) or not events:
        report.error("NX-A05", "`events` is missing or empty", at, "a range needs an `introduced` event")
        return ()
    pairs: list[tuple[str, str]] = []
    for index, event in enumerate(events[:_MAX_ITEMS]):
        if not isinstance(event, dict) or len(event) != 1 or next(iter(event)) not in EVENTS:
            report.error("NX-A05", f"an event has one key of {', '.join(EVENTS)}", (*at, index))
            continue
        ((kind, text),) = event.items()
        if not isinstance(text, str):
            report.error(
                "NX-A05", f"`{kind}` is `{text}`, which is no text", (*at, index, kind), f'put it in quotes: `{kind}: "{text}"`'
            )
        elif text == "*" and kind == "limit":
            continue
        elif text != "0" and parse(text) is None:
            slot["undecided"] = f"`{kind}: {text[:60]}` is no version by PEP 440"
            report.warn(
                "NX-A07",
                f"`{kind}: {text[:60]}` is no version by PEP 440: pins outside `versions` are reported as not audited",
                (*at, index, kind),
            )
            return ()
        else:
            pairs.append((kind, text))
    if pairs and not any(kind == "introduced" for kind, _ in pairs):
        report.error(
            "NX-A05", "the range has no `introduced` event", at, 'a range that starts at the first version has `introduced: "0"`'
        )
    return tuple(pairs)


def _severity(value: Any, at: Path, report: _Report) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    pairs = []
    for item in value if isinstance(value, list) else [None]:
        kind, score = (item.get("type"), item.get("score")) if isinstance(item, dict) else (None, None)
        if isinstance(kind, str) and isinstance(score, str) and len(score) <= 512:
            pairs.append((kind, score))
        else:
            report.warn("NX-A08", "an entry of `severity` has no `type` and `score`: the severity is unknown", at)
    return tuple(pairs)


def _summary(record: Mapping[str, Any]) -> str:
    text = record.get("summary") or record.get("details") or ""
    line = " ".join(str(text)[: 4 * _SUMMARY].split())
    return line if len(line) <= _SUMMARY else line[: _SUMMARY - 1] + "…"


def _url(references: Any) -> str:
    """The address that explains the most: the advisory, else the fix, else the first; only web addresses."""
    found: dict[str, str] = {}
    for item in references if isinstance(references, list) else []:
        if isinstance(item, dict) and (address := link(item.get("url"))):
            found.setdefault(str(item.get("type")), address)
    return found.get("ADVISORY") or found.get("FIX") or next(iter(found.values()), "")


def link(value: object) -> str:
    """The address when it is one of the web (RFC 3986, http or https) of at most 500 characters; else empty.

    It is printed as a link by every report, and one that is none makes them invalid.
    """
    return value if isinstance(value, str) and len(value) <= 500 and _LINK.fullmatch(value) else ""


def refuse_twins(advisories: Iterable[tuple[str, Advisory]]) -> tuple[list[Advisory], list[Finding]]:
    """The advisories of (file, advisory), and a finding for each id that two files claim with different content."""
    first: dict[tuple[str, str], tuple[str, Advisory]] = {}
    findings = []
    for file, advisory in advisories:
        key = (advisory.id, advisory.package)
        known = first.setdefault(key, (file, advisory))
        if known[1] != advisory:
            findings.append(
                Finding(code="NX-A06", file=file, message=f"`{advisory.id}` stands in `{known[0]}` too, with other content",
                        hint="keep one of the two")
            )  # fmt: skip
    return [advisory for _, advisory in first.values()], findings


class _Report:
    """Collects the findings of one record."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []

    @property
    def failed(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def error(self, code: str, message: str, at: Path, hint: str = "") -> None:
        self.findings.append(Finding(code=code, file=self.file, message=printable(message), hint=printable(hint), at=at))

    def warn(self, code: str, message: str, at: Path) -> None:
        self.findings.append(Finding(code=code, file=self.file, message=printable(message), severity="warning", at=at))

    def strings(self, value: Any, at: Path, code: str) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            self.error(code, f"`{at[-1]}` is no list of at most {_MAX_ITEMS} texts", at)
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.error(code, f"`{item}` is no text", (*at, index), f'put it in quotes: "{item}"')
        return tuple(item[:256] for item in value if isinstance(item, str))

    def date(self, value: Any, key: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str) or not _DATE.fullmatch(value):
            self.error("NX-A10", f"`{key}` is no time in UTC: `{str(value)[:60]}`", (key,), "write it as `2024-07-11T17:21:37Z`")
            return ""
        return value
