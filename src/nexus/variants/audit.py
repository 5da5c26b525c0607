"""Locked versions against an advisory snapshot: what each pin's verdict is, and why.

Pure: locks, snapshot, waivers, targets and the day are arguments, so a verdict can be computed again later from the same
inputs. The CLI, the gate, the HTTP API and `nexus show package` call :func:`audit`; `auditviews` turns its report into data.

What is not known is never a pass: a line without a version, an advisory nobody can decide, a package the snapshot does not
cover, a snapshot that cannot be read are all `not-audited`, and a report with one of them is not ok.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from packaging.markers import Marker
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from nexus.variants import advisories, pins, severity
from nexus.variants.advisories import Advisory, Match
from nexus.variants.auditsnapshot import Snapshot
from nexus.variants.auditwaivers import NOT_AUDITED, Waiver
from nexus.variants.severity import Severity

MAX_AGE = timedelta(days=30)

# of a pin
CLEAN, VULNERABLE, WAIVED, UNKNOWN = "clean", "vulnerable", "waived", "not-audited"
# of an advisory at a pin
FIXED_IN, NO_FIX, WITHDRAWN, MARKER = "fixed-in", "no-fix", "withdrawn", "not-affected-by-marker"
COUNTING = (FIXED_IN, NO_FIX)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def environment(python: str, platform: str = "x86_64-unknown-linux") -> dict[str, str]:
    """The marker environment (PEP 508) of CPython *python* (``3.12``) on a platform as uv names it."""
    systems = (
        ("windows", ("nt", "win32", "Windows")),
        ("apple", ("posix", "darwin", "Darwin")),
        ("macos", ("posix", "darwin", "Darwin")),
    )
    os_name, sys_platform, system = next((names for part, names in systems if part in platform), ("posix", "linux", "Linux"))
    machine = "arm64" if system == "Darwin" and not platform.startswith("x86_64") else platform.partition("-")[0]
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "os_name": os_name,
        "sys_platform": sys_platform,
        "platform_system": system,
        "platform_machine": machine if machine in ("x86_64", "aarch64", "arm64") else "x86_64",
        "platform_release": "",
        "platform_version": "",
    }


TARGETS: tuple[Mapping[str, str], ...] = tuple(
    environment(python, platform)
    for python in ("3.11", "3.12", "3.13")
    for platform in ("x86_64-unknown-linux", "aarch64-unknown-linux")
)


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """One lock: its name for people (a variant or a file), the text of each of its files, or why there is none.

    A lock without pins is not audited, unless it may be ``empty`` because its variant asks for nothing.
    """

    name: str
    files: Mapping[str, str]
    reason: str = "the lock pins nothing"
    empty: bool = False


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """One vulnerability at one pin: records that are aliases of each other are one issue."""

    id: str
    aliases: tuple[str, ...]
    verdict: str
    summary: str
    severity: Severity
    fixed_in: tuple[str, ...] = ()
    last_affected: str = ""
    url: str = ""
    withdrawn: str = ""
    waiver: Waiver | None = None

    @property
    def counts(self) -> bool:
        """Whether it makes the pin vulnerable when nobody waived it."""
        return self.verdict in COUNTING

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the vulnerability."""
        return (self.id, *self.aliases)


class PinVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit says of one pin of one lock."""

    lock: str
    file: str
    line: int
    name: str
    version: str
    status: str
    reference: str = ""
    marker: str = ""
    reason: str = ""
    issues: tuple[Issue, ...] = ()
    upgrade_to: str = ""
    waiver: Waiver | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The worst base score and the sum of base scores; ``unrated`` counts vulnerabilities without a score."""

    vulnerabilities: int
    worst: float
    total: float
    unrated: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The audit of some locks against one snapshot. ``snapshot`` is None when there was none to read."""

    locks: int
    verdicts: tuple[PinVerdict, ...]
    audited_at: datetime
    snapshot: Snapshot | None
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there was something to audit and every pin is clean or waived."""
        return self.locks > 0 and all(item.status in (CLEAN, WAIVED) for item in self.verdicts)

    def of(self, status: str) -> tuple[PinVerdict, ...]:
        """The verdicts with this status."""
        return tuple(item for item in self.verdicts if item.status == status)

    def score(self, *, waived: bool) -> Score:
        """The score of what counts; with *waived* what waivers cover counts too. One vulnerability of one version counts once."""
        seen = {
            (item.name, item.version, issue.id): issue.severity.score
            for item in self.verdicts
            for issue in item.issues
            if issue.counts and (waived or issue.waiver is None)
        }
        rated = [score for score in seen.values() if score is not None]
        return Score(
            vulnerabilities=len(seen), worst=max(rated, default=0.0), total=round(sum(rated), 1), unrated=len(seen) - len(rated)
        )


def audit(
    locks: Sequence[Lock],
    snapshot: Snapshot | None,
    *,
    now: datetime,
    waivers: Sequence[Waiver] = (),
    targets: Sequence[Mapping[str, str]] = TARGETS,
    max_age: timedelta = MAX_AGE,
    missing: str = "there is no advisory snapshot",
) -> Report:
    """The verdict on every line of every lock. *missing* says why *snapshot* is None; then nothing is audited."""
    current = [waiver for waiver in waivers if waiver.holds(now.date())]
    examiner = _Examiner(snapshot, current, targets, missing)
    verdicts = [verdict for lock in locks for verdict in _of_lock(lock, examiner)]
    warnings = [*_snapshot_warnings(snapshot, now, max_age), *_waiver_warnings(waivers, verdicts, now)]
    if any(issue.severity.note == severity.MISSING_LIBRARY for verdict in verdicts for issue in verdict.issues):
        warnings.append(f"severities are unknown: {severity.MISSING_LIBRARY}")
    return Report(locks=len(locks), verdicts=tuple(verdicts), audited_at=now, snapshot=snapshot, warnings=tuple(warnings))


def _of_lock(lock: Lock, examiner: _Examiner) -> list[PinVerdict]:
    verdicts = []
    for file, text in sorted(lock.files.items()):
        read = pins.parse(text, file)
        verdicts += [examiner.verdict(lock.name, file, pin) for pin in read.pins]
        verdicts += [
            PinVerdict(lock=lock.name, file=file, line=finding.line, name="?", version="", status=UNKNOWN, reason=finding.message)
            for finding in read.findings
        ]
    if not verdicts and not lock.empty:
        first = min(lock.files, default="")
        verdicts.append(PinVerdict(lock=lock.name, file=first, line=0, name="?", version="", status=UNKNOWN, reason=lock.reason))
    return sorted(verdicts, key=lambda item: (item.file, item.line))


class _Judgement(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    reason: str = ""
    issues: tuple[Issue, ...] = ()
    upgrade_to: str = ""
    waiver: Waiver | None = None


class _Examiner:
    """Judges pins; the same package, version and marker in several locks is judged once."""

    def __init__(
        self, snapshot: Snapshot | None, waivers: Sequence[Waiver], targets: Sequence[Mapping[str, str]], missing: str
    ) -> None:
        self._snapshot = snapshot
        self._waivers = waivers
        self._targets = targets
        self._missing = missing
        self._judged: dict[tuple[str, str, str, str], _Judgement] = {}
        self._markers: dict[str, bool] = {"": True}

    def verdict(self, lock: str, file: str, pin: pins.Pin) -> PinVerdict:
        key = (pin.name, pin.version, pin.url, pin.marker)
        judged = self._judged.get(key)
        if judged is None:
            judged = self._judged[key] = self._judge(pin)
        return PinVerdict(
            lock=lock, file=file, line=pin.line_number, name=pin.name, version=pin.version, status=judged.status,
            reference=_shown(pin.url), marker=pin.marker, reason=judged.reason, issues=judged.issues,
            upgrade_to=judged.upgrade_to, waiver=judged.waiver,
        )  # fmt: skip

    def _judge(self, pin: pins.Pin) -> _Judgement:
        version, why = _version_of(pin)
        if self._snapshot is None:
            return self._unknown(pin.name, self._missing)
        if version is None:
            return self._unknown(pin.name, why)
        if not self._snapshot.covers(pin.name, pin.version):
            return self._unknown(pin.name, f"the snapshot does not cover `{pin.name}`")
        records = self._snapshot.of(pin.name)
        if not records:
            return _Judgement(status=CLEAN)
        applies = self._applies(pin.marker)
        issues, undecided = _issues(records, version, applies=applies)
        issues = tuple(self._waived(pin.name, issue) for issue in issues)
        reason = "" if applies else "its marker is false on every target"
        upgrade = _upgrade(records, issues, version)
        if any(issue.counts and issue.waiver is None for issue in issues):
            return _Judgement(status=VULNERABLE, reason=undecided or reason, issues=issues, upgrade_to=upgrade)
        if undecided:
            return self._unknown(pin.name, undecided, issues, upgrade)
        status = WAIVED if any(issue.counts for issue in issues) else CLEAN
        return _Judgement(status=status, reason=reason, issues=issues, upgrade_to=upgrade)

    def _unknown(self, name: str, reason: str, issues: tuple[Issue, ...] = (), upgrade: str = "") -> _Judgement:
        waiver = next((item for item in self._waivers if item.covers(name, (NOT_AUDITED,))), None)
        status = UNKNOWN if waiver is None else WAIVED
        return _Judgement(status=status, reason=reason, issues=issues, upgrade_to=upgrade, waiver=waiver)

    def _waived(self, name: str, issue: Issue) -> Issue:
        waiver = next((item for item in self._waivers if issue.counts and item.covers(name, issue.names)), None)
        return issue if waiver is None else msgspec.structs.replace(issue, waiver=waiver)

    def _applies(self, marker: str) -> bool:
        known = self._markers.get(marker)
        if known is None:
            parsed = Marker(marker)
            known = self._markers[marker] = any(parsed.evaluate({**target, "extra": ""}) for target in self._targets)
        return known


def _version_of(pin: pins.Pin) -> tuple[Version | None, str]:
    """The version the pin installs, or why it is not known. A wheel at a URL says it in its name; a Git commit says none."""
    if not pin.url:
        return advisories.parse(pin.version), f"`{pin.version}` is no version by PEP 440"
    try:
        name, version, _, _ = parse_wheel_filename(pin.url.partition("#")[0].rpartition("/")[2])
    except InvalidWheelFilename:
        kind = "a Git commit" if pin.url.startswith("git+") else "a direct URL"
        return None, f"{kind} names no version that advisories could be compared with"
    return (version, "") if name == pin.name else (None, f"the wheel at the URL is `{name}`, not `{pin.name}`")


def _issues(records: Sequence[Advisory], version: Version, *, applies: bool) -> tuple[tuple[Issue, ...], str]:
    """One issue a vulnerability that meets the version, and why one cannot be decided (empty when all can)."""
    issues, undecided = [], ""
    for group in _groups(records):
        active = [
            (record, match) for record, match in ((item, advisories.match(item, version)) for item in group) if not record.withdrawn
        ]
        affected = [(record, match) for record, match in active if match.affected]
        if affected:
            issues.append(_issue(affected, group, version, applies=applies))
        elif active and all(match.undecided for _, match in active):
            record, match = active[0]
            undecided = f"{record.id}: {match.undecided}" if applies else undecided
        elif not active:
            hits = [(record, match) for record in group if (match := advisories.match(record, version)).affected]
            if hits:
                issues.append(_issue(hits, group, version, applies=applies))
    return tuple(sorted(issues, key=lambda issue: (-(issue.severity.score or 0.0), issue.id))), undecided


def _issue(hits: Sequence[tuple[Advisory, Match]], group: Sequence[Advisory], version: Version, *, applies: bool) -> Issue:
    first = min(
        (record for record, _ in hits),
        key=lambda record: (record.id.startswith("CVE-"), not record.id.startswith("PYSEC-"), record.id),
    )
    names = dict.fromkeys(name for record in group for name in (record.id, *record.aliases))
    fixes = _unaffected((fix for _, match in hits for fix in match.fixed_in), [record for record, _ in hits], version)
    verdict = WITHDRAWN if first.withdrawn else MARKER if not applies else FIXED_IN if fixes else NO_FIX
    return Issue(
        id=first.id, aliases=tuple(sorted(name for name in names if name != first.id)), verdict=verdict, summary=first.summary,
        severity=severity.worst(severity.rate(record.severity) for record, _ in hits), fixed_in=fixes,
        last_affected=max((match.last_affected for _, match in hits), default=""), url=first.url, withdrawn=first.withdrawn,
    )  # fmt: skip


def _unaffected(candidates: Iterable[str], records: Sequence[Advisory], version: Version) -> tuple[str, ...]:
    """Those candidate versions, in order, that are newer and that no record affects."""
    parsed = sorted({item for text in candidates if (item := advisories.parse(text)) is not None and item > version})
    return tuple(str(item) for item in parsed if not any(advisories.match(record, item).affected for record in records))


def _upgrade(records: Sequence[Advisory], issues: Sequence[Issue], version: Version) -> str:
    """The lowest version that fixes every counting issue and that no known vulnerability affects; empty when there is none."""
    candidates = [fix for issue in issues if issue.counts for fix in issue.fixed_in]
    active = [record for record in records if not record.withdrawn]
    return next(iter(_unaffected(candidates, active, version)), "")


def _groups(records: Sequence[Advisory]) -> list[list[Advisory]]:
    """Records that name each other, or a common alias, together: they describe one vulnerability."""
    groups: list[tuple[set[str], list[Advisory]]] = []
    for record in records:
        names = {record.id, *record.aliases}
        members = [record]
        apart = []
        for known, held in groups:
            if known & names:
                names |= known
                members = held + members
            else:
                apart.append((known, held))
        groups = [*apart, (names, members)]
    return [members for _, members in groups]


def _shown(url: str) -> str:
    """The URL without user name and password, and not too long."""
    return _USERINFO.sub("", url)[:200]


def _snapshot_warnings(snapshot: Snapshot | None, now: datetime, max_age: timedelta) -> list[str]:
    if snapshot is None:
        return []
    warnings = []
    age = now - snapshot.date
    if age > max_age:
        warnings.append(
            f"the advisories are {age.days} days old ({snapshot.manifest.date[:10]}); renew them with `nexus advisories update`"
        )
    if snapshot.manifest.skipped:
        warnings.append(
            f"the snapshot left out {len(snapshot.manifest.skipped)} unreadable records: {', '.join(snapshot.manifest.skipped[:5])}"
        )
    return warnings


def _waiver_warnings(waivers: Sequence[Waiver], verdicts: Sequence[PinVerdict], now: datetime) -> list[str]:
    used = {item.waiver for item in verdicts} | {issue.waiver for item in verdicts for issue in item.issues}
    warnings = []
    for waiver in waivers:
        if not waiver.holds(now.date()):
            warnings.append(f"the waiver of {waiver.advisory} for `{waiver.package}` ({waiver.owner}) expired on {waiver.expires}")
        elif waiver not in used:
            warnings.append(
                f"the waiver of {waiver.advisory} for `{waiver.package}` ({waiver.owner}) meets nothing in these locks: remove it"
            )
    return warnings
