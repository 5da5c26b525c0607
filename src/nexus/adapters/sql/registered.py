"""Rows of manifests and tokens: few, small, written seldom."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec.structs import replace

from nexus.adapters.sql.transaction import Transaction
from nexus.kernel.access import Scope, Token
from nexus.kernel.clock import from_microseconds, to_microseconds
from nexus.runs.keeping import next_manifest, no_token, token_exists
from nexus.runs.ports import StoredManifest

_SELECT_MANIFEST = (
    "SELECT m.kind, m.name, m.namespace, m.revision, m.body, m.source, m.trusted, m.stored_at, h.removed "
    "FROM manifests m JOIN manifest_heads h ON h.kind = m.kind AND h.name = m.name "
)


def put_manifests(transaction: Transaction, manifests: Sequence[StoredManifest], *, prune: bool) -> list[StoredManifest]:
    """Stores each as the next revision of its name, unless its body equals the newest one, and with *prune* marks every other
    current name as removed; all or nothing."""
    with transaction.whole():
        stored = [_put(transaction.connection, manifest) for manifest in manifests]
        return stored + _prune(transaction.connection, {(each.kind, each.name) for each in manifests}) if prune else stored


def _put(connection: sqlite3.Connection, given: StoredManifest) -> StoredManifest:
    row = connection.execute(
        _SELECT_MANIFEST + "AND m.revision = h.revision WHERE m.kind = ? AND m.name = ?", (given.kind, given.name)
    ).fetchone()
    stored = manifest(row) if row is not None else None
    result = next_manifest(stored, given)
    if stored is None or result.revision != stored.revision:
        connection.execute(
            "INSERT INTO manifests (kind, name, revision, namespace, body, source, trusted, stored_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (result.kind, result.name, result.revision, result.namespace, result.body, result.source, int(result.trusted),
             to_microseconds(result.stored_at)),
        )  # fmt: skip
    elif result != stored:
        connection.execute(
            "UPDATE manifests SET source = ?, trusted = ? WHERE kind = ? AND name = ? AND revision = ?",
            (result.source, int(result.trusted), result.kind, result.name, result.revision),
        )
    connection.execute(
        "INSERT INTO manifest_heads (kind, name, revision, removed) VALUES (?, ?, ?, 0) "
        "ON CONFLICT (kind, name) DO UPDATE SET revision = excluded.revision, removed = 0",
        (result.kind, result.name, result.revision),
    )
    return result


def _prune(connection: sqlite3.Connection, keep: set[tuple[str, str]]) -> list[StoredManifest]:
    gone = [each for each in current_manifests(connection) if (each.kind, each.name) not in keep]
    connection.executemany(
        "UPDATE manifest_heads SET removed = 1 WHERE kind = ? AND name = ?", [(each.kind, each.name) for each in gone]
    )
    return [replace(each, removed=True) for each in gone]


def current_manifests(connection: sqlite3.Connection) -> list[StoredManifest]:
    """The newest revision of every name that is not removed."""
    rows = connection.execute(_SELECT_MANIFEST + "AND m.revision = h.revision WHERE h.removed = 0 ORDER BY m.kind, m.name")
    return [manifest(row) for row in rows]


def manifest_at(connection: sqlite3.Connection, kind: str, name: str, revision: int) -> StoredManifest | None:
    """One revision of a name, removed or not; ``removed`` says whether the name is removed now."""
    query = _SELECT_MANIFEST + "WHERE m.kind = ? AND m.name = ? AND m.revision = ?"
    row = connection.execute(query, (kind, name, revision)).fetchone()
    return None if row is None else manifest(row)


def manifest(row: Sequence[object]) -> StoredManifest:
    """The manifest of a row."""
    kind, name, namespace, revision, body, source, trusted, stored_at, removed = row
    return StoredManifest(
        kind=str(kind), name=str(name), namespace=str(namespace), revision=_int(revision), body=_bytes(body), source=str(source),
        trusted=bool(trusted), stored_at=from_microseconds(_int(stored_at)), removed=bool(removed),
    )  # fmt: skip


def add_token(transaction: Transaction, token: Token) -> None:
    """Keeps a token. Raises Conflict when the name is taken."""
    try:
        transaction.connection.execute(
            "INSERT INTO tokens (name, digest, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (
                token.name,
                token.digest,
                " ".join(sorted(scope.value for scope in token.scopes)),
                to_microseconds(token.created_at),
                None if token.expires_at is None else to_microseconds(token.expires_at),
            ),
        )
    except sqlite3.IntegrityError:
        raise token_exists(token.name) from None


def revoke_token(transaction: Transaction, name: str) -> None:
    """Forgets a token. Raises NotFound."""
    if transaction.connection.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount == 0:
        raise no_token(name)


def tokens(connection: sqlite3.Connection) -> list[Token]:
    """Every token, by name."""
    return [
        Token(
            name=name,
            digest=digest,
            scopes=frozenset(Scope(scope) for scope in scopes.split()),
            created_at=from_microseconds(created_at),
            expires_at=None if expires_at is None else from_microseconds(expires_at),
        )
        for name, digest, scopes, created_at, expires_at in connection.execute(
            "SELECT name, digest, scopes, created_at, expires_at FROM tokens ORDER BY name"
        )
    ]


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
