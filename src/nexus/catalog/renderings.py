"""Findings in the forms other tools read: plain records, SARIF 2.1.0, workflow commands of GitHub Actions. Pure.

Sources: OASIS "Static Analysis Results Interchange Format 2.1.0"; GitHub documentation "Workflow commands", "SARIF support".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from nexus.catalog import rulebook
from nexus.catalog.checks import Report
from nexus.catalog.waivers import Waived
from nexus.kernel.documents import Finding, printable

COLUMNS = ("severity", "code", "file", "line", "column", "message", "hint")
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning"}


def record(finding: Finding) -> dict[str, Any]:
    """One finding as plain data; line and column are null for the file as a whole."""
    return {
        "severity": finding.severity, "code": finding.code, "file": printable(finding.file), "line": finding.line or None,
        "column": finding.column or None, "message": finding.message, "hint": finding.hint or None,
    }  # fmt: skip


def report(found: Report) -> dict[str, Any]:
    """A whole report as plain data: findings, waived findings with their waivers, counts."""
    return {
        "findings": [record(one) for one in found.findings],
        "waived": [waived(one) for one in found.waived],
        "summary": {"errors": found.errors, "warnings": found.warnings, "waived": len(found.waived)},
    }


def waived(one: Waived) -> dict[str, Any]:
    """A waived finding as plain data, with who answers for it, why and until when."""
    waiver = {"owner": one.waiver.owner, "reason": one.waiver.reason, "expires": one.waiver.expires.isoformat()}
    return {**record(one.finding), "waiver": waiver}


def sarif(found: Report, version: str, prefix: str = "") -> dict[str, Any]:
    """The report as one SARIF run. *prefix* is the registry's place in its repository: addresses are relative to that."""
    codes = sorted({one.code for one in found.findings} | {one.finding.code for one in found.waived})
    results = [_result(one, codes, prefix) for one in found.findings]
    results += [
        {
            **_result(one.finding, codes, prefix),
            "suppressions": [{"kind": "external", "justification": printable(one.waiver.reason)}],
        }
        for one in found.waived
    ]
    driver = {"name": "nexus", "semanticVersion": version, "rules": [_rule(code) for code in codes]}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}],
    }


def _rule(code: str) -> dict[str, Any]:
    one = rulebook.RULES.get(code)
    if one is None:
        return {"id": code, "shortDescription": {"text": "A document cannot be read"}}
    return {
        "id": code, "name": one.name, "shortDescription": {"text": one.title},
        "fullDescription": {"text": " ".join(one.text.split())},
        "help": {"text": one.hint}, "defaultConfiguration": {"level": _LEVELS.get(one.severity, "note")},
    }  # fmt: skip


def _result(finding: Finding, codes: list[str], prefix: str) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": quote(prefix + printable(finding.file))}}
    if finding.line:
        location["region"] = {"startLine": finding.line, "startColumn": max(finding.column, 1)}
    text = finding.message + (f". {finding.hint[0].upper()}{finding.hint[1:]}" if finding.hint else "")
    return {
        "ruleId": finding.code, "ruleIndex": codes.index(finding.code), "level": _LEVELS.get(finding.severity, "note"),
        "message": {"text": text}, "locations": [{"physicalLocation": location}],
    }  # fmt: skip


def workflow_commands(found: Report, prefix: str = "") -> Iterator[str]:
    """A line a finding; GitHub Actions turns them into annotations of the pull request's files."""
    for one in found.findings:
        fields = [f"file={_property(prefix + printable(one.file))}"]
        if one.line:
            fields += [f"line={one.line}", f"col={max(one.column, 1)}"]
        fields.append(f"title={_property(one.code)}")
        text = one.message + (f"\n{one.hint}" if one.hint else "")
        yield f"::{'error' if one.severity == 'error' else 'warning'} {','.join(fields)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
