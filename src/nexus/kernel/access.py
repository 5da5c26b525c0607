"""Who asks, and what they may do: scopes, principals and stored tokens. The HTTP doors decide; stores keep hashes only."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec


class Scope(StrEnum):
    """What a token allows. Each stands alone; ``operate`` does not include the others."""

    SUBMIT = "submit"  # create and cancel runs
    READ = "read"  # results, metadata, payloads, logs, listings
    OPERATE = "operate"  # register algorithms, change the service
    RUN = "run"  # what a run's own process may do: read its payload, report, spawn children


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. ``run_id`` is set when the caller is the process of that run."""

    name: str
    scopes: frozenset[Scope]
    run_id: str | None = None


ANONYMOUS = "anonymous"
LOCAL_OPERATOR = Principal(name=ANONYMOUS, scopes=frozenset({Scope.SUBMIT, Scope.READ, Scope.OPERATE}))


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is kept: ``digest`` is the SHA-256 of its text, which is shown once and stored nowhere."""

    name: str
    digest: bytes
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None


class TokenStore(Protocol):
    """Keeps tokens by name.

    T1  add() refuses a name that exists (Conflict). T2  revoke() of an unknown name raises NotFound. T3  Both survive a crash.
    """

    async def add_token(self, token: Token) -> None: ...

    async def revoke_token(self, name: str) -> None: ...

    async def tokens(self) -> Sequence[Token]: ...


def make_token() -> tuple[str, bytes]:
    """A new token's text (``nx_`` and 43 characters, 256 bits) and its digest."""
    text = f"nx_{secrets.token_urlsafe(32)}"
    return text, digest(text)


def digest(text: str) -> bytes:
    """What is kept of a token's text. A fast hash is right: the text is random, not a password."""
    return hashlib.sha256(text.encode()).digest()
