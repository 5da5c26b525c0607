"""Tokens as they are made: names, scopes, expiry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nexus.kernel.access import Scope, digest, issue_token
from nexus.kernel.errors import InvalidInput

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_a_token_keeps_the_hash_of_its_text() -> None:
    """What is kept cannot be turned back into what is shown; two tokens never share a text."""
    text, token = issue_token("ci", ["submit", "read", "read"], "", NOW)
    assert (token.name, token.scopes, token.created_at, token.expires_at) == ("ci", {Scope.SUBMIT, Scope.READ}, NOW, None)
    assert token.digest == digest(text)
    assert text not in repr(token)
    assert issue_token("ci", ["read"], "", NOW)[0] != text


@pytest.mark.parametrize(
    ("expires", "length"), [("30d", timedelta(days=30)), ("1h30m", timedelta(minutes=90)), ("99999d", timedelta(days=99_999))]
)
def test_expiry_is_a_duration(expires: str, length: timedelta) -> None:
    """Days beside the durations of Go."""
    assert issue_token("ci", ["read"], expires, NOW)[1].expires_at == NOW + length


@pytest.mark.parametrize("bad", ["soon", "0d", "0s", "-1d", "99999d9", "1e400h"])
def test_an_expiry_that_cannot_be_is_refused(bad: str) -> None:
    """Nonsense, nothing, and what lies beyond every calendar."""
    with pytest.raises(InvalidInput, match="expiry"):
        issue_token("ci", ["read"], bad, NOW)


@pytest.mark.parametrize("name", ["", "a b", "-x", "anonymous", "x" * 101, "ü", "a\n", "run:1"])
def test_a_name_that_could_mislead_is_refused(name: str) -> None:
    """Names are shown in logs and beside runs: nothing that looks like somebody else, or like two words."""
    with pytest.raises(InvalidInput, match="name"):
        issue_token(name, ["read"], "", NOW)


@pytest.mark.parametrize("scopes", [[], ["run"], ["all"], ["read", ""]])
def test_scopes_are_those_that_can_be_given(scopes: list[str]) -> None:
    """A run's own scope is given by its service only."""
    with pytest.raises(InvalidInput, match="scope"):
        issue_token("ci", scopes, "", NOW)
