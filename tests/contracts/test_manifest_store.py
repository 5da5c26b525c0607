"""ManifestStore: SQLite and the in-memory twin keep the promises M1 to M3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.testing.memory import MemoryStore
from nexus.testing.suites.manifests import ManifestStoreSuite, ManifestSubject
from tests.contracts.durable import sqlite_file


class TestSqlite(ManifestStoreSuite):
    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[ManifestSubject]:
        async with sqlite_file(tmp_path) as files:
            yield ManifestSubject(files.store, files.reopen)


class TestMemory(ManifestStoreSuite):
    @pytest.fixture
    async def subject(self) -> ManifestSubject:
        store = MemoryStore()

        async def reopen() -> MemoryStore:
            return store

        return ManifestSubject(store, reopen)
