"""An audit report as data: rows of a table, JSON for programs and the HTTP API, SARIF for code hosts.

Pure; the CLI and the `latest` API print what these return. Every verdict carries the snapshot it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.kernel.clock import rfc3339
from nexus.variants import severity
from nexus.variants.advisories import Advisory
from nexus.variants.audit import CLEAN, UNKNOWN, VULNERABLE, WAIVED, Issue, PinVerdict, Report, Score
from nexus.variants.auditsnapshot import Snapshot
from nexus.variants.auditwaivers import Waiver

ADVISORY_COLUMNS = ("id", "package", "severity", "affected", "fixed_in", "aliases", "summary")
COLUMNS = ("lock", "package", "version", "status", "advisory", "severity", "fixed_in", "note", "snapshot")
_INFORMATION = "https://github.com/pypa/advisory-database"


def summary(report: Report) -> dict[str, Any]:
    """The whole report: outcome, snapshot, counts, scores with and without waivers, warnings, and every verdict."""
    return {
        "ok": report.ok,
        "audited_at": rfc3339(report.audited_at),
        "snapshot": snapshot(report.snapshot) if report.snapshot is not None else None,
        "counts": {status: len(report.of(status)) for status in (CLEAN, VULNERABLE, WAIVED, UNKNOWN)},
        "score": _score(report.score(waived=False)),
        "score_without_waivers": _score(report.score(waived=True)),
        "warnings": list(report.warnings),
        "verdicts": [verdict(item, report.snapshot) for item in report.verdicts],
    }


def snapshot(held: Snapshot) -> dict[str, Any]:
    """What a snapshot is: hash, dates, counts, what it covers, sources."""
    manifest = held.manifest
    return {
        "id": held.id,
        "date": manifest.date,
        "imported": manifest.imported,
        "ecosystem": manifest.ecosystem,
        "records": manifest.records,
        "packages": manifest.packages,
        "covers": "the whole ecosystem" if manifest.covers is None else list(manifest.covers),
        "skipped": list(manifest.skipped),
        "sources": [msgspec.to_builtins(source) for source in manifest.sources],
    }


def verdict(item: PinVerdict, held: Snapshot | None) -> dict[str, Any]:
    """One verdict with its issues and the snapshot it was made with."""
    return {
        "lock": item.lock,
        "file": item.file,
        "line": item.line,
        "package": item.name,
        "version": item.version,
        "status": item.status,
        **_given(reference=item.reference, marker=item.marker, reason=item.reason, upgrade_to=item.upgrade_to),
        **({"waiver": _waiver(item.waiver)} if item.waiver is not None else {}),
        "issues": [_issue(issue) for issue in item.issues],
        "snapshot": {"id": held.id, "date": held.manifest.date} if held is not None else None,
    }


def rows(report: Report) -> list[dict[str, Any]]:
    """A row an issue, and a row a pin that is not audited; clean pins stand in :func:`summary` alone."""
    if report.snapshot is None:
        return _unread(report)
    return [row for item in report.verdicts for row in _rows(item, report.snapshot)]


def _unread(report: Report) -> list[dict[str, Any]]:
    """Without a snapshot every pin has the same verdict: a row a lock says it, with its count."""
    found = []
    for lock in dict.fromkeys(item.lock for item in report.verdicts):
        held = [item for item in report.verdicts if item.lock == lock]
        reason = held[0].reason if all(item.status == UNKNOWN for item in held) else "see `-o json`"
        found.append({"lock": lock, "package": f"all {len(held)}", "status": UNKNOWN, "note": reason, "snapshot": "none"})
    return found


def _rows(item: PinVerdict, held: Snapshot | None) -> list[dict[str, Any]]:
    package = item.name if item.name != "?" else f"{item.file}:{item.line}"
    base = {"lock": item.lock, "package": package, "version": item.version, "snapshot": held.name if held is not None else "none"}
    found = [
        {
            **base,
            "status": _status(issue),
            "advisory": issue.id,
            "severity": shown_severity(issue),
            "fixed_in": ", ".join(issue.fixed_in),
            "note": _note(issue),
        }
        for issue in item.issues
    ]
    if item.status == UNKNOWN or item.waiver is not None:
        waived = f"; waived until {item.waiver.expires} by {item.waiver.owner}" if item.waiver is not None else ""
        found.append({**base, "status": item.status, "note": item.reason + waived})
    return found


def advisory(item: Advisory) -> dict[str, Any]:
    """One advisory of a snapshot for people and programs."""
    rated = severity.rate(item.severity)
    return {
        "id": item.id,
        "package": item.package,
        "severity": rated.level if rated.score is None else f"{rated.level} {rated.score}",
        "affected": "; ".join(_range(events) for events in item.ranges) or ", ".join(item.versions) or item.undecided,
        "fixed_in": sorted({text for events in item.ranges for kind, text in events if kind == "fixed"} | set(item.fixes)),
        "aliases": list(item.aliases),
        "summary": item.summary,
        **_given(published=item.published, modified=item.modified, withdrawn=item.withdrawn, url=item.url),
    }


def _range(events: tuple[tuple[str, str], ...]) -> str:
    signs = {"introduced": ">=", "fixed": "<", "last_affected": "<=", "limit": "<"}
    return ", ".join(f"{signs[kind]}{text}" for kind, text in events if (kind, text) != ("introduced", "0")) or "every version"


def shown_severity(issue: Issue) -> str:
    """``high 7.5``, or ``unknown``."""
    return issue.severity.level if issue.severity.score is None else f"{issue.severity.level} {issue.severity.score}"


def lines(report: Report) -> list[str]:
    """What a person is told after the table: counts, scores, snapshot, warnings."""
    counts = {status: len(report.of(status)) for status in (CLEAN, VULNERABLE, WAIVED, UNKNOWN)}
    plain, full = report.score(waived=False), report.score(waived=True)
    outcome = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    told = [f"{sum(counts.values())} pins: {outcome or 'nothing to audit'}"]
    if full.vulnerabilities:
        told.append(f"score {_told(plain)}; without waivers {_told(full)}")
    if report.snapshot is not None:
        told.append(f"advisories of {report.snapshot.manifest.date[:10]}, snapshot sha256:{report.snapshot.id}")
    return told + [f"warning: {warning}" for warning in report.warnings]


def sarif(report: Report) -> dict[str, Any]:
    """The report as SARIF 2.1.0: a result an issue or unaudited pin, waivers as suppressions."""
    rules: dict[str, dict[str, Any]] = {}
    results = []
    for item in report.verdicts:
        for issue in item.issues:
            if not issue.counts:
                continue
            rules.setdefault(issue.id, _rule(issue))
            results.append(_result(issue.id, _message(item, issue), item, issue.waiver, _level(issue)))
        if item.status == UNKNOWN or item.waiver is not None:
            rules.setdefault(UNKNOWN, {"id": UNKNOWN, "shortDescription": {"text": "a locked package could not be audited"}})
            results.append(_result(UNKNOWN, f"{item.name}: not audited: {item.reason}", item, item.waiver, "error"))
    properties = {"snapshot": snapshot(report.snapshot)} if report.snapshot is not None else {}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "nexus audit", "informationUri": _INFORMATION, "rules": list(rules.values())}},
                "results": results,
                "properties": properties,
            }
        ],
    }


def _rule(issue: Issue) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": issue.id, "shortDescription": {"text": issue.summary or issue.id}}
    if issue.url:
        rule["helpUri"] = issue.url
    if issue.severity.score is not None:
        rule["properties"] = {"security-severity": str(issue.severity.score)}
    return rule


def _result(rule: str, message: str, item: PinVerdict, waiver: Waiver | None, level: str) -> dict[str, Any]:
    location = {"artifactLocation": {"uri": item.file or "."}, "region": {"startLine": max(item.line, 1)}}
    result: dict[str, Any] = {
        "ruleId": rule,
        "level": level,
        "message": {"text": message},
        "locations": [{"physicalLocation": location}],
    }
    if waiver is not None:
        said = f"{waiver.reason} ({waiver.owner}, until {waiver.expires})"
        result["suppressions"] = [{"kind": "external", "justification": said}]
    return result


def _level(issue: Issue) -> str:
    return "warning" if issue.severity.level in ("none", "low") else "error"


def _message(item: PinVerdict, issue: Issue) -> str:
    fix = f"fixed in {', '.join(issue.fixed_in)}" if issue.fixed_in else "no fix is known"
    return f"{item.name} {item.version}: {issue.id} ({shown_severity(issue)}), {fix}. {issue.summary}".strip()


def _status(issue: Issue) -> str:
    if not issue.counts:
        return issue.verdict
    return WAIVED if issue.waiver is not None else VULNERABLE


def _note(issue: Issue) -> str:
    if issue.waiver is not None:
        return f"waived until {issue.waiver.expires} by {issue.waiver.owner}: {issue.waiver.reason}"
    if issue.withdrawn:
        return f"withdrawn on {issue.withdrawn[:10]}"
    if issue.last_affected and not issue.fixed_in:
        return f"versions after {issue.last_affected} are not affected"
    return issue.summary if len(issue.summary) <= 60 else issue.summary[:59] + "…"


def _issue(issue: Issue) -> dict[str, Any]:
    rated = {"level": issue.severity.level, "score": issue.severity.score} | _given(
        vector=issue.severity.vector, note=issue.severity.note
    )
    return {
        "id": issue.id,
        "aliases": list(issue.aliases),
        "verdict": issue.verdict,
        "severity": rated,
        "fixed_in": list(issue.fixed_in),
        **_given(last_affected=issue.last_affected, summary=issue.summary, url=issue.url, withdrawn=issue.withdrawn),
        **({"waiver": _waiver(issue.waiver)} if issue.waiver is not None else {}),
    }


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return {
        "advisory": waiver.advisory,
        "package": waiver.package,
        "reason": waiver.reason,
        "owner": waiver.owner,
        "expires": waiver.expires.isoformat(),
    }


def _score(score: Score) -> Mapping[str, float]:
    return {"vulnerabilities": score.vulnerabilities, "worst": score.worst, "total": score.total, "unrated": score.unrated}


def _told(score: Score) -> str:
    unrated = f", {score.unrated} unrated" if score.unrated else ""
    word = "vulnerability" if score.vulnerabilities == 1 else "vulnerabilities"
    return f"{score.total:g} (worst {score.worst:g}, {score.vulnerabilities} {word}{unrated})"


def _given(**values: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}
