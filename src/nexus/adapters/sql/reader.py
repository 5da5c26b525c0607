"""A thread with a connection that only reads: for queries that take longer than the event loop may stand still."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from nexus.adapters.sql.faults import translated

T = TypeVar("T")


def connect_reader(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection that cannot write, usable from any one thread at a time."""
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


class Reader:
    """Runs queries one after the other in its thread."""

    def __init__(self, path: Path, name: str, busy_s: float) -> None:
        self._path = path
        self._connection = connect_reader(path, busy_s)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, query: Callable[..., T], *arguments: Any) -> T:
        """What *query* gives for the connection and *arguments*."""

        def ask() -> T:
            with translated(self._path):
                return query(self._connection, *arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    async def close(self) -> None:
        """Interrupts the query under way and ends the thread."""
        self._connection.interrupt()
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()
