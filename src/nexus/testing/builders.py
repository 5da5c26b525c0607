"""Runs for tests, with every field a test does not care about filled in."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from nexus.kernel.ids import IdMaker
from nexus.runs.model import ParentRef, Payload, Run, Stage

NOON = datetime(2026, 11, 21, 12, 0, 0, 123457, tzinfo=UTC)  # its microseconds are odd on purpose
make_id = IdMaker()
_ticks = itertools.count()


def build_run(**changes: Any) -> Run:
    """A BUFFERED root run of ``demand`` as accept() gets it, with *changes*; each is received a millisecond after the last."""
    run_id = changes.pop("id", None) or make_id()
    received_at = changes.pop("received_at", None) or NOON + timedelta(milliseconds=next(_ticks))
    fields: dict[str, Any] = {
        "algorithm": "demand",
        "stage": Stage.BUFFERED,
        "last_modified": received_at,
        "received_by": "host-1",
        "caller": "anonymous",
        "content_hash": "MDAwMDAwMDA=",
        "payload": Payload(size_bytes=2),
        "template_revision": 1,
        "root_id": run_id,
        "api_version": "v1",
        **changes,
    }
    return Run(id=run_id, received_at=received_at, **fields)


def build_child(parent: Run, **changes: Any) -> Run:
    """A run that names *parent*; its root and depth are the store's business."""
    return build_run(parent=ParentRef(algorithm=parent.algorithm, run_id=parent.id), **changes)
