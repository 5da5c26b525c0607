"""Work on a data folder that no service holds: tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nexus.adapters.folder import DataFolder, default_data_folder
from nexus.adapters.sql import SqliteStore
from nexus.kernel.access import TokenStore
from nexus.kernel.clock import SystemClock


@asynccontextmanager
async def open_tokens(data_dir: str = "") -> AsyncIterator[TokenStore]:
    """The tokens of a data folder (default: the platform's). Raises FolderInUse while a service holds it."""
    with DataFolder(Path(data_dir) if data_dir else default_data_folder()) as folder:
        store = await SqliteStore.open(folder.path / "nexus.db", clock=SystemClock())
        try:
            yield store
        finally:
            await store.close()
