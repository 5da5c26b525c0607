"""The embedded store: runs, manifests and tokens in one SQLite file, written by one thread with group commit.

``store`` is the adapter that wiring opens; ``writer`` the thread that writes, ``reader`` those that read; ``transaction`` and
``registered`` what is done inside a group, ``listings`` the queries; ``rows`` how a run becomes a row and back; ``schema``
tables and upgrades; ``faults`` the driver's errors in our words.
"""

from nexus.adapters.sql.store import SqliteStore

__all__ = ["SqliteStore"]
