"""What every TokenStore promises (T1 to T3 of ``nexus.kernel.access``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from nexus.kernel.access import Scope, Token, digest, make_token
from nexus.kernel.errors import Conflict, NotFound
from nexus.testing.builders import NOON


@dataclass
class TokenSubject:
    """The store under test; ``reopen`` gives what a new process finds."""

    store: Any
    reopen: Callable[[], Awaitable[Any]]


def build_token(name: str = "ci", *scopes: Scope, expires: bool = False) -> Token:
    _, kept = make_token()
    ends = NOON + timedelta(days=1) if expires else None
    return Token(name=name, digest=kept, scopes=frozenset(scopes or {Scope.READ}), created_at=NOON, expires_at=ends)


class TokenStoreSuite:
    """Needs a fixture ``subject`` of TokenSubject with an empty store."""

    async def test_t1_a_name_is_given_once(self, subject: TokenSubject) -> None:
        """A second token of one name raises Conflict and leaves the first."""
        first = build_token("ci")
        await subject.store.add_token(first)
        with pytest.raises(Conflict, match="`ci`"):
            await subject.store.add_token(build_token("ci"))
        assert list(await subject.store.tokens()) == [first]

    async def test_t1_every_field_is_kept(self, subject: TokenSubject) -> None:
        """Scopes, digest and expiry come back as given, tokens in the order of their names."""
        tokens = [build_token("b", *Scope, expires=True), build_token("a", Scope.SUBMIT)]
        for token in tokens:
            await subject.store.add_token(token)
        assert list(await subject.store.tokens()) == [tokens[1], tokens[0]]

    async def test_t2_an_unknown_name_cannot_be_revoked(self, subject: TokenSubject) -> None:
        """revoke_token() removes a token once; the second time, and for a name nobody had, it raises NotFound."""
        await subject.store.add_token(build_token("ci"))
        await subject.store.revoke_token("ci")
        assert list(await subject.store.tokens()) == []
        with pytest.raises(NotFound, match="`ci`"):
            await subject.store.revoke_token("ci")

    async def test_t3_tokens_are_there_for_the_next_process(self, subject: TokenSubject) -> None:
        """Tokens added are kept, tokens revoked stay revoked, when the store is opened again."""
        kept = build_token("kept")
        await subject.store.add_token(kept)
        await subject.store.add_token(build_token("gone"))
        await subject.store.revoke_token("gone")
        store = await subject.reopen()
        assert list(await store.tokens()) == [kept]

    async def test_t3_the_text_of_a_token_is_not_kept(self, subject: TokenSubject) -> None:
        """What is kept is the digest, from which the text cannot be read."""
        text, kept = make_token()
        await subject.store.add_token(Token(name="ci", digest=kept, scopes=frozenset({Scope.READ}), created_at=NOON))
        (token,) = await subject.store.tokens()
        assert token.digest == digest(text)
        assert text not in repr(token)
