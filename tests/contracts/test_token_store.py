"""TokenStore: SQLite and the in-memory twin keep the promises T1 to T3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.testing.memory import MemoryStore
from nexus.testing.suites.tokens import TokenStoreSuite, TokenSubject
from tests.contracts.durable import sqlite_file


class TestSqlite(TokenStoreSuite):
    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[TokenSubject]:
        async with sqlite_file(tmp_path) as files:
            yield TokenSubject(files.store, files.reopen)


class TestMemory(TokenStoreSuite):
    @pytest.fixture
    async def subject(self) -> TokenSubject:
        store = MemoryStore()

        async def reopen() -> MemoryStore:
            return store

        return TokenSubject(store, reopen)
