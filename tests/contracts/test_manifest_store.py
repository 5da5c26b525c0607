"""ManifestStore: SQLite and the in-memory twin keep the promises M1 to M4."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.testing.memory import MemoryStore
from nexus.testing.suites.manifests import ManifestStoreSuite, ManifestSubject
from tests.contracts.durable import sqlite_file, start_child


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


@pytest.mark.faults
@pytest.mark.parametrize(("step", "set_"), [("store.begin", 2), ("store.before-commit", 2), ("store.after-commit", 3)])
async def test_m4_a_killed_process_has_applied_and_pruned_all_or_nothing(tmp_path: Path, step: str, set_: int) -> None:
    """After SIGKILL at any step of a pruning apply, either the set before it or its own is current, whole and alone."""
    child = start_child(f"manifests-{step}", tmp_path / "nexus.db")
    acknowledged, _ = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert acknowledged.split()[1::2] == [b"0", b"1", b"2"]
    async with sqlite_file(tmp_path) as files:
        current = await files.store.current()
    prefix = "odd" if set_ % 2 else "even"
    assert {manifest.name for manifest in current} == {"both", *(f"{prefix}-{number}" for number in range(20))}
    assert {manifest.body for manifest in current} == {b"%d" % set_}
