"""The same service without storing runs: the ceiling of durable accepting. ``python -m bench.nostore serve …``"""

from __future__ import annotations

from nexus.adapters.sql.store import SqliteStore
from nexus.cli.main import main
from nexus.runs.model import Run
from nexus.runs.ports import Accepted, TreeLimits


async def accept(self: SqliteStore, run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted:
    """Says yes and keeps nothing."""
    return Accepted(run)


if __name__ == "__main__":
    SqliteStore.accept = accept  # type: ignore[method-assign]
    raise SystemExit(main())
