"""What is done to runs inside one group of the writer. Called in the writer thread only, between BEGIN and COMMIT.

Nothing here can conflict: there is one writer, and each step sees what the steps before it did. Counters of stages are
gathered and written once a group.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from msgspec.structs import replace

from nexus.adapters.sql.rows import (
    INLINE_BYTES,
    INSERT_ANY,
    SELECT_RUN,
    decode,
    differences,
    encode,
    encode_end,
    encode_fresh,
    insert_fresh,
)
from nexus.kernel.clock import to_microseconds
from nexus.kernel.errors import IdempotencyMismatch
from nexus.runs.keeping import cancelled_parent, check_limits, not_found, run_exists, same_request, unknown_parent, unstorable
from nexus.runs.model import Report, Run, Stage
from nexus.runs.ports import Accepted, Change, Decide, Ended, TreeLimits

Fresh = tuple[Run, bytes | None]

_END = (
    "INSERT INTO attempts (run_id, attempt, kind, started_at, ended_at, code, signal, detail, peak_memory_bytes, cpu_s) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_CHUNK = 16
_INSERT_CHUNK = insert_fresh(_CHUNK)
_INSERT_FRESH = insert_fresh(1)
_BY_KEY = f"{SELECT_RUN} WHERE caller = ? AND algorithm = ? AND idempotency_key = ?"
_BY_ID = SELECT_RUN.replace("SELECT ", "SELECT seq, ", 1) + " WHERE id = ?"
_TREE = (
    "WITH RECURSIVE tree(id) AS (VALUES (?) UNION SELECT runs.id FROM runs JOIN tree ON runs.parent_id = tree.id) "  # noqa: S608
    + SELECT_RUN.replace("SELECT ", "SELECT seq, ", 1)
    + " WHERE id IN tree ORDER BY depth, seq"
)
_CANCELLED_ANCESTOR = (
    "WITH RECURSIVE line(id, parent_id, stage) AS ("
    "SELECT id, parent_id, stage FROM runs WHERE id = ? "
    "UNION SELECT runs.id, runs.parent_id, runs.stage FROM runs JOIN line ON runs.id = line.parent_id) "
    "SELECT id FROM line WHERE stage = 'CANCELLED' LIMIT 1"
)


class Transaction:
    """One open transaction: the runs' operations, and the counters they move."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.moved: dict[Stage, int] = {}

    # ── accepting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def accept_fresh(self, runs: Sequence[Fresh]) -> list[Accepted | Exception]:
        """Inserts fresh root runs with payloads that fit a row; one result for each, in order."""
        results: list[Accepted | Exception] = []
        for start in range(0, len(runs), _CHUNK):
            chunk = runs[start : start + _CHUNK]
            if len(chunk) == _CHUNK:
                try:
                    values = [value for run, inline in chunk for value in (*encode_fresh(run), inline)]
                    inserted = self.connection.execute(_INSERT_CHUNK, values).rowcount
                except (sqlite3.IntegrityError, UnicodeEncodeError, OverflowError):
                    pass  # one of the sixteen is bad and none was inserted: one by one finds it
                else:
                    results += [Accepted(run) if inserted == _CHUNK else self._settle(run) for run, _ in chunk]
                    continue
            results += [self._accept_one_fresh(run, inline) for run, inline in chunk]
        for result in results:
            if isinstance(result, Accepted) and not result.replayed:
                self._count(result.run.stage, 1)
        return results

    def _accept_one_fresh(self, run: Run, inline: bytes | None) -> Accepted | Exception:
        try:
            inserted = self.connection.execute(_INSERT_FRESH, (*encode_fresh(run), inline)).rowcount
        except sqlite3.IntegrityError:
            return run_exists(run)
        except (UnicodeEncodeError, OverflowError) as error:
            return unstorable(error)
        return Accepted(run) if inserted else self._settle(run)

    def _settle(self, run: Run) -> Accepted | Exception:
        """What became of a run whose statement left out those with a taken key."""
        stored = None if run.idempotency_key is None else self._stored_under_key(run)
        if stored is None or stored.id == run.id:
            return Accepted(run)
        try:
            return Accepted(same_request(stored, run), True)
        except IdempotencyMismatch as error:
            return error

    def _stored_under_key(self, run: Run) -> Run | None:
        row = self.connection.execute(_BY_KEY, (run.caller, run.algorithm, run.idempotency_key)).fetchone()
        return None if row is None else decode(row)

    def accept(self, run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted:
        """Stores a run of any kind: with a parent, a history, a payload larger than fits a row."""
        if run.idempotency_key is not None:
            stored = self._stored_under_key(run)
            if stored is not None:
                return Accepted(same_request(stored, run), True)
        if run.parent is not None:
            run = self._placed(run, limits)
        elif run.root_id != run.id or run.depth:
            run = replace(run, root_id=run.id, depth=0)
        in_row = inline is None or len(inline) <= INLINE_BYTES
        try:
            cursor = self.connection.execute(INSERT_ANY, (*encode(run), inline if in_row else None))
        except sqlite3.IntegrityError:
            raise run_exists(run) from None
        if not in_row:
            self.connection.execute("INSERT INTO payloads (seq, body) VALUES (?, ?)", (cursor.lastrowid, inline))
        if run.root_id != run.id:
            self.connection.execute("UPDATE runs SET tree_runs = tree_runs + 1 WHERE id = ?", (run.root_id,))
        self._count(run.stage, 1)
        return Accepted(run)

    def _placed(self, run: Run, limits: TreeLimits) -> Run:
        """The child with its root and depth. Raises UnknownParent, CancelledParent, TreeLimit."""
        parent = run.parent
        assert parent is not None
        row = self.connection.execute("SELECT algorithm, depth, root_id FROM runs WHERE id = ?", (parent.run_id,)).fetchone()
        if row is None or row[0] != parent.algorithm:
            raise unknown_parent(run)
        cancelled = self.connection.execute(_CANCELLED_ANCESTOR, (parent.run_id,)).fetchone()
        if cancelled is not None:
            raise cancelled_parent(run, cancelled[0])
        root_id = row[2] or parent.run_id
        (runs,) = self.connection.execute("SELECT tree_runs FROM runs WHERE id = ?", (root_id,)).fetchone()
        check_limits(row[1] + 1, runs + 1, limits)
        return replace(run, root_id=root_id, depth=row[1] + 1)

    # ── changing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def change(self, run_id: str, decide: Decide) -> Change:
        """Applies *decide* to the run as it is now. Raises RunNotFound and whatever *decide* raises."""
        row = self.connection.execute(_BY_ID, (run_id,)).fetchone()
        if row is None:
            raise not_found(run_id)
        before = decode(row[1:])
        change = Change(before, decide(before))
        self._write(row[0], change)
        return change

    def end_attempt(self, ended: Ended, decide: Decide) -> Change:
        """Applies *decide* to the attempt's run and keeps how the attempt ended, unless an end of it is kept already."""
        with self.whole():
            self.connection.execute(_END, encode_end(ended))
            return self.change(ended.run_id, decide)

    def change_tree(self, run_id: str, decide: Decide) -> list[Change]:
        """Applies *decide* to a run and all its descendants, parents first; all or nothing."""
        rows = self.connection.execute(_TREE, (run_id,)).fetchall()
        if not rows:
            raise not_found(run_id)
        changes = []
        for row in rows:
            before = decode(row[1:])
            changes.append(Change(before, decide(before)))
        moved = dict(self.moved)
        try:
            with self.whole():
                for row, change in zip(rows, changes, strict=True):
                    self._write(row[0], change)
        except BaseException:
            self.moved = moved
            raise
        return changes

    def _write(self, seq: int, change: Change) -> None:
        if not change.written:
            return
        names, values = differences(change.before, change.after)
        if names:
            self.connection.execute(_update(names), (*values, seq))
        if change.before.stage is not change.after.stage:
            self._count(change.before.stage, -1)
            self._count(change.after.stage, 1)

    def record_late(self, run_id: str, report: Report) -> None:
        """Keeps a report beside the run."""
        if self.connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is None:
            raise not_found(run_id)
        self.connection.execute(
            "INSERT INTO late_reports (run_id, received_at, result_uri, error_cause, error_details) VALUES (?, ?, ?, ?, ?)",
            (run_id, to_microseconds(report.received_at), report.result_uri, report.error_cause, report.error_details),
        )

    # ── around ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Undoes what several statements did when one of them fails, and leaves the rest of the group alone."""
        self.connection.execute("SAVEPOINT whole")
        try:
            yield
        except BaseException:
            if self.connection.in_transaction:  # a full disk has already undone everything
                self.connection.execute("ROLLBACK TO whole")
                self.connection.execute("RELEASE whole")
            raise
        self.connection.execute("RELEASE whole")

    def _count(self, stage: Stage, by: int) -> None:
        self.moved[stage] = self.moved.get(stage, 0) + by

    def write_counters(self) -> None:
        """Adds what this group moved to the stored counters."""
        moved = [(stage.value, by) for stage, by in self.moved.items() if by]
        if moved:
            self.connection.executemany(
                "INSERT INTO counters (stage, runs) VALUES (?, ?) ON CONFLICT (stage) DO UPDATE SET runs = runs + excluded.runs",
                moved,
            )


@lru_cache(maxsize=256)
def _update(names: tuple[str, ...]) -> str:
    return f"UPDATE runs SET {', '.join(f'{name} = ?' for name in names)} WHERE seq = ?"  # noqa: S608 - names from rows.py
