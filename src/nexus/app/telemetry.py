"""Logs: an event and its fields, as text for people or JSON lines for machines. No payload and no secret is ever a field.

Used as ``log.info("run.ended", extra={"fields": {...}})``, so that every module needs only the standard library.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from nexus.kernel.clock import rfc3339
from nexus.runs.diagnosis import is_reported
from nexus.runs.ports import Change

_RUNS = logging.getLogger("nexus.runs")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        told = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        line = f"{at} {record.levelname.lower():7} {record.getMessage()} {told}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        entry = {
            "at": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


def _plain(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(character.isspace() or not character.isprintable() for character in text) else text


def tell_stage(change: Change) -> None:
    """Logs that a run was started or has ended; a listener of the store. Dry runs, which come by the thousand, at debug."""
    run = change.after
    if run.stage is change.before.stage or not _RUNS.isEnabledFor(logging.INFO):
        return
    fields: dict[str, Any] = {"algorithm": run.algorithm, "run": run.id}
    if run.stage.final:
        fields["stage"] = run.stage.value
        fields["since_received_s"] = round((run.last_modified - run.received_at).total_seconds(), 3)
        if run.failure_cause:
            # an exception's text quotes the data it failed on, and logs hold no payload
            fields["cause"] = "reported by the algorithm" if is_reported(run) else run.failure_cause[:200]
    else:
        fields["waited_s"] = round((run.last_modified - run.received_at).total_seconds(), 3)
    _RUNS.log(
        logging.DEBUG if run.dry_run else logging.INFO, "run.ended" if run.stage.final else "run.started", extra={"fields": fields}
    )


class Faults:
    """A Prometheus collector: errors nobody foresaw, which a role's loop logged and survived."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily

        faults = CounterMetricFamily("nexus_role_faults", "Unexpected errors survived by a role", labels=("role",))
        for role, count in self._counts().items():
            faults.add_metric((role,), count)
        yield faults


def start_logging(level: str, style: str) -> None:
    """Sends every logger of the process to stderr in the chosen form; replaces what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, getattr(logging, level.upper())))
