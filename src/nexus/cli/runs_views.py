"""Runs as people read them: rows, records, trees. Pure; the commands print what these return."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nexus.kernel.units import format_bytes, format_duration

if TYPE_CHECKING:
    from nexus.sdk import RunResult, RunView
    from nexus.sdk.model import Attempt

COLUMNS = ("id", "algorithm", "stage", "tag", "received", "took", "attempt")
ATTEMPT_COLUMNS = ("attempt", "started", "ended", "took", "exit", "logs", "why")


def plain(run: RunView) -> dict[str, Any]:
    """Every field, named as on the wire: what ``-o json`` and ``-o yaml`` show."""
    import msgspec

    fields: dict[str, Any] = msgspec.to_builtins(run)
    return fields


def flat(run: RunView) -> dict[str, Any]:
    """The fields that hold one value: what one line of CSV has room for."""
    fields = {name: value for name, value in plain(run).items() if not isinstance(value, list)}
    if run.parent is not None:
        fields["parent"] = str(run.parent.ref)
    return fields


def attempts(run: RunView) -> list[dict[str, Any]]:
    """The attempts of a run, a line each."""
    return [_attempt(each) for each in run.attempts]


def _attempt(each: Attempt) -> dict[str, Any]:
    signal = f"signal {each.signal}" if each.signal is not None else None
    return {
        "attempt": each.attempt,
        "started": _instant(each.started_at),
        "ended": _instant(each.ended_at),
        "took": format_duration(each.took_seconds) if each.took_seconds is not None else "",
        "exit": each.exit_code if each.exit_code is not None else signal,
        "logs": "kept" if each.logs else "gone",
        "why": each.why or each.state,
    }


def row(run: RunView) -> dict[str, Any]:
    """One line of a listing."""
    return {
        "id": run.request_id,
        "algorithm": run.algorithm,
        "stage": run.stage,
        "tag": run.tag or "",
        "received": _instant(run.received_at),
        "took": took(run),
        "attempt": run.attempt or "",
    }


def record(run: RunView) -> dict[str, Any]:
    """One run, for people."""
    return {
        "id": run.request_id,
        "algorithm": run.algorithm,
        "stage": run.stage,
        "cause": run.failure_cause,
        "details": run.failure_details,
        "result": run.result_uri,
        "tag": run.tag,
        "parent": str(run.parent.ref) if run.parent else None,
        "root": run.root_id if run.depth else None,
        "dry run": "yes" if run.dry_run else None,
        "caller": run.caller,
        "received": _instant(run.received_at),
        "sent": _instant(run.sent_at),
        "started": _instant(run.started_at),
        "last change": _instant(run.last_modified),
        "took": took(run),
        "attempt": run.attempt or None,
        "template revision": run.template_revision,
        "payload": format_bytes(run.payload_bytes),
        "late reports": len(run.late_reports) or None,
    }


def outcome(result: RunResult) -> dict[str, Any]:
    """How a run stands, named as on the wire."""
    fields = {"algorithm": result.ref.algorithm, "requestId": result.ref.id, "status": result.stage}
    if result.result_uri:
        fields["resultUri"] = result.result_uri
    if result.message:
        fields["runErrorMessage"] = result.message
    return fields


def took(run: RunView) -> str:
    """How long the run worked; empty while that is not known."""
    if run.started_at is None or not run.final:
        return ""
    return format_duration((run.last_modified - run.started_at).total_seconds())


def tree(runs: Sequence[RunView], marked: str = "", *, ascii_only: bool = False) -> str:
    """The tree drawn with lines; *marked* is the id of the run that was asked for. Cycles and lost parents cannot hang it."""
    corner, tee, bar = ("`-- ", "|-- ", "|   ") if ascii_only else ("└── ", "├── ", "│   ")
    children: dict[str, list[RunView]] = {}
    known = {run.request_id for run in runs}
    roots = []
    for run in sorted(runs, key=lambda run: run.request_id):
        above = run.parent.requestId if run.parent else ""
        if above in known and above != run.request_id:
            children.setdefault(above, []).append(run)
        else:
            roots.append(run)
    lines: list[str] = []
    todo = [(run, "", "") for run in reversed(roots)]
    while todo:
        run, head, indent = todo.pop()
        lines.append(head + _leaf(run) + ("  <" if run.request_id == marked and len(runs) > 1 else ""))
        below = children.pop(run.request_id, [])
        for index, child in reversed(list(enumerate(below))):
            last = index == len(below) - 1
            todo.append((child, indent + (corner if last else tee), indent + ("    " if last else bar)))
    return "\n".join(lines) + "\n"


def _leaf(run: RunView) -> str:
    parts = [run.stage, f"{run.algorithm}/{run.request_id}", f"[{run.tag}]" if run.tag else "", took(run)]
    if run.failure_cause:
        parts.append("- " + run.failure_cause.splitlines()[0][:100])
    return "  ".join(part for part in parts if part)


def _instant(value: datetime | None) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if value else ""
