"""The one thread that writes: callers put operations in, it commits them in groups and wakes the event loop once a group.

What arrives in one turn of the event loop is handed over together; while one group is on its way to the disk the next one
gathers, so a slow disk makes groups larger, not callers fewer (``stack.md`` 2: the mean group is half the callers). Nothing
is told yes before COMMIT returned, which in WAL mode with ``synchronous=FULL`` is after the log's fsync.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nexus.adapters.sql.faults import translate
from nexus.adapters.sql.transaction import Fresh, Transaction
from nexus.kernel.errors import NexusError, NoSpace, Unavailable
from nexus.runs.keeping import unstorable
from nexus.runs.model import Stage

log = logging.getLogger(__name__)

Work = Callable[[Transaction], Any]
Item = tuple["asyncio.Future[Any]", Work | None, Fresh | None]  # no work: a fresh run to accept
Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]

_LARGEST_GROUP = 512  # bounds the latency of a commit and the size of the log when thousands wait


class Writer:
    """Group commit over one connection. ``counts`` is replaced, never changed, after each commit."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection], on_step: Callable[[str], None] | None) -> None:
        self.counts: dict[Stage, int] = {}
        self._path = path
        self._connect = connect
        self._on_step = on_step
        self._loop = asyncio.get_running_loop()
        self._pending: list[Item] = []
        self._queue: SimpleQueue[list[Item] | None] = SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        self._unanswered: list[Item] = []  # what the thread had taken when it ended; empty unless it broke
        self._thread = threading.Thread(target=self._run, name="nexus-store-writer", daemon=True)

    async def start(self) -> None:
        """Opens the connection in the thread. Raises what opening raises."""
        self._thread.start()
        await self._opened

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """Has *work* done inside the next group; the future gets its result after the commit."""
        return self._put(work, None)

    def submit_fresh(self, fresh: Fresh) -> asyncio.Future[Any]:
        """Has a fresh run inserted; neighbours of its kind share a statement."""
        return self._put(None, fresh)

    async def close(self) -> None:
        """Commits what was submitted, closes the connection (which empties the log) and ends the thread."""
        if not self._closed:
            self._hand_over()
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _put(self, work: Work | None, fresh: Fresh | None) -> asyncio.Future[Any]:
        if self._closed:
            raise stopped()
        future = self._loop.create_future()
        if not self._pending:
            self._loop.call_soon(self._hand_over)
        self._pending.append((future, work, fresh))
        return future

    def _hand_over(self) -> None:
        if self._pending:
            self._queue.put(self._pending)
            self._pending = []

    def _end(self, items: list[Item]) -> None:
        """After the thread: whoever still waits, because it broke, is told. Runs on the loop, so nothing comes in between."""
        self._closed = True
        items += self._pending
        self._pending = []
        while not self._queue.empty():
            items += self._queue.get() or []
        _deliver([(future, None, stopped()) for future, _, _ in items])

    # ── in the thread ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            connection = self._connect()
            self.counts = _load_counts(connection)
        except (sqlite3.Error, NexusError) as error:
            self._tell(_fail, self._opened, translate(error, self._path) if isinstance(error, sqlite3.Error) else error)
            return
        self._tell(_succeed, self._opened)
        try:
            self._serve(connection)
        except BaseException:
            log.exception("store.writer_broke: the service has to be started again")
        finally:
            connection.close()
            self._tell(self._end, self._unanswered)

    def _serve(self, connection: sqlite3.Connection) -> None:
        waiting: list[Item] = []
        ending = False
        while waiting or not ending:
            if not waiting:
                handed = self._queue.get()
                if handed is None:
                    ending = True
                else:
                    waiting = handed
            while not self._queue.empty():
                handed = self._queue.get()
                if handed is None:
                    ending = True
                else:
                    waiting.extend(handed)
            self._unanswered = waiting
            group, waiting = waiting[:_LARGEST_GROUP], waiting[_LARGEST_GROUP:]
            if group:
                self._tell(_deliver, self._attempt(connection, group))
            self._unanswered = waiting

    def _attempt(self, connection: sqlite3.Connection, group: list[Item]) -> list[Outcome]:
        """The outcomes of a group; when it does not fit the disk, of each alone, since the small ones may."""
        try:
            return self._commit(connection, group)
        except (
            Exception
        ) as error:  # the loop of this thread: whatever went wrong, every caller hears of it and the next group is tried
            failure: Exception = translate(error, self._path) if isinstance(error, sqlite3.Error) else error
            if isinstance(failure, NexusError):
                log.error("store.group_failed runs=%d error=%s", len(group), failure.message)
            else:
                log.exception("store.group_failed runs=%d", len(group))
            self._roll_back(connection)
            if isinstance(failure, NoSpace) and len(group) > 1:
                return [outcome for item in group for outcome in self._attempt(connection, [item])]
            return [(future, None, failure) for future, _, _ in group]

    def _commit(self, connection: sqlite3.Connection, group: list[Item]) -> list[Outcome]:
        step = self._on_step
        if step is not None:
            step("store.begin")
        connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(connection)
        outcomes = self._do(transaction, group)
        transaction.write_counters()
        if step is not None:
            step("store.before-commit")
        connection.execute("COMMIT")
        if transaction.moved:
            counts = dict(self.counts)
            for stage, by in transaction.moved.items():
                counts[stage] = counts.get(stage, 0) + by
            self.counts = counts
        if step is not None:
            step("store.after-commit")
        return outcomes

    def _do(self, transaction: Transaction, group: list[Item]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        fresh: list[Fresh] = []
        futures: list[asyncio.Future[Any]] = []

        def flush() -> None:
            for future, result in zip(futures, transaction.accept_fresh(fresh), strict=True):
                outcomes.append((future, None, result) if isinstance(result, Exception) else (future, result, None))
            fresh.clear()
            futures.clear()

        for future, work, run in group:
            if run is not None:
                fresh.append(run)
                futures.append(future)
                continue
            if fresh:
                flush()
            assert work is not None
            outcomes.append(_outcome(transaction, future, work))
        if fresh:
            flush()
        return outcomes

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:  # a full disk may have rolled back already
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("store.rollback_failed")

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.warning("store.loop_closed: an answer had nobody to go to")


def stopped() -> Unavailable:
    """What a call on a closed store gets."""
    return Unavailable("the store is closed: the service is stopping", hint="send the request again when the service is back")


def _outcome(transaction: Transaction, future: asyncio.Future[Any], work: Work) -> Outcome:
    try:
        return future, work(transaction), None
    except sqlite3.Error:
        raise  # the disk or the file: the group as a whole cannot be committed
    except (UnicodeEncodeError, OverflowError) as error:
        return future, None, unstorable(error)
    except Exception as error:  # a refusal, or a decision that is wrong: its own caller's, nobody else's
        return future, None, error


def _deliver(outcomes: list[Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue  # the caller gave up; what it asked for is stored all the same
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _load_counts(connection: sqlite3.Connection) -> dict[Stage, int]:
    return {Stage(name): runs for name, runs in connection.execute("SELECT stage, runs FROM counters")}
