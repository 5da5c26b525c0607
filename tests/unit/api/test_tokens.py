"""Access tokens over HTTP: made, listed and revoked by operators, effective at once, secret in one answer only."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from nexus.api import tokens
from nexus.kernel.access import Scope
from tests.unit.api.service import REMOTE, House

TOKENS = "/algorithm/latest/tokens"
QUEUE = "/algorithm/latest/queue"


async def test_a_token_is_made_used_and_revoked(house: House) -> None:
    """It is good at once, has its scopes and no others, and is worth nothing as soon as it is revoked."""
    operator = await house.token(Scope.OPERATE, name="ops")
    made = await house.call("POST", TOKENS, {"name": "ci", "scopes": ["read"], "expires": "30d"}, token=operator, peer=REMOTE)
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    text = made.json()["token"]
    assert text.startswith("nx_")
    assert made.json() == {
        "name": "ci",
        "scopes": ["read"],
        "createdAt": "2026-11-21T12:00:00.000007Z",
        "expiresAt": "2026-12-21T12:00:00.000007Z",
        "token": text,
    }
    assert (await house.call("GET", QUEUE, token=text, peer=REMOTE)).status == 200
    assert (await house.call("POST", TOKENS, {"name": "x", "scopes": ["read"]}, token=text, peer=REMOTE)).status == 403
    assert (await house.call("DELETE", f"{TOKENS}/ci", token=operator, peer=REMOTE)).status == 200
    assert (await house.call("GET", QUEUE, token=text, peer=REMOTE)).status == 401
    assert (await house.call("DELETE", f"{TOKENS}/ci", token=operator, peer=REMOTE)).status == 404


async def test_the_text_of_a_token_is_nowhere_else(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the list, nor the store, nor the log holds it; the log says who made what."""
    with caplog.at_level(logging.DEBUG):
        text = (await house.call("POST", TOKENS, {"name": "ci", "scopes": ["read", "submit"]})).json()["token"]
        listed = await house.call("GET", TOKENS)
        await house.call("DELETE", f"{TOKENS}/ci")
    assert listed.json()["tokens"] == [{"name": "ci", "scopes": ["read", "submit"], "createdAt": "2026-11-21T12:00:00.000007Z"}]
    assert text not in listed.text
    assert text not in repr(vars(house.store))
    told = [(record.message, record.__dict__["fields"]) for record in caplog.records if record.message.startswith("token.")]
    assert told == [
        ("token.created", {"token": "ci", "scopes": ["read", "submit"], "by": "anonymous"}),
        ("token.revoked", {"token": "ci", "by": "anonymous"}),
    ]
    assert text not in caplog.text


async def test_an_expired_token_is_listed_as_such(house: House) -> None:
    """It stays in the list until somebody revokes it."""
    await house.call("POST", TOKENS, {"name": "soon", "scopes": ["read"], "expires": "10s"})
    assert "expired" not in (await house.call("GET", TOKENS)).json()["tokens"][0]
    house.clock.pass_(timedelta(seconds=10))
    assert (await house.call("GET", TOKENS)).json()["tokens"][0]["expired"] is True


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": "a b", "scopes": ["read"]}, "name"),
        ({"name": "anonymous", "scopes": ["read"]}, "name"),
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "x" * 101, "scopes": ["read"]}, "name"),
        ({"name": "x", "scopes": []}, "scope"),
        ({"name": "x", "scopes": ["run"]}, "`run` is no scope"),
        ({"name": "x", "scopes": ["read", "all"]}, "`all` is no scope"),
        ({"name": "x", "scopes": ["read"], "expires": "soon"}, "expiry"),
        ({"name": "x", "scopes": ["read"], "expires": "0s"}, "no time at all"),
        ({"name": "x", "scopes": ["read"], "more": 1}, "more"),
        (b"[]", "object"),
    ],
)
async def test_a_wrong_token_is_refused(house: House, body: object, told: str) -> None:
    """What cannot be is 400 with what to do, and nothing is kept."""
    reply = await house.call("POST", TOKENS, body)
    assert (reply.status, told in reply.text) == (400, True)
    assert not await house.store.tokens()


async def test_a_name_is_given_once_and_tokens_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second token of the name is 409 and leaves the first; so is one too many."""
    first = (await house.call("POST", TOKENS, {"name": "ci", "scopes": ["read"]})).json()["token"]
    assert (await house.call("POST", TOKENS, {"name": "ci", "scopes": ["operate"]})).status == 409
    assert (await house.call("GET", QUEUE, token=first)).status == 200
    monkeypatch.setattr(tokens, "MAX_TOKENS", 1)
    assert (await house.call("POST", TOKENS, {"name": "next", "scopes": ["read"]})).status == 409


async def test_a_page_of_another_origin_makes_no_token(house: House) -> None:
    """A browser that was lured here cannot mint one, nor revoke one."""
    await house.call("POST", TOKENS, {"name": "ci", "scopes": ["read"]})
    foreign = {"origin": "https://evil.example.org"}
    assert (await house.call("POST", TOKENS, {"name": "x", "scopes": ["read"]}, headers=foreign)).status == 403
    assert (
        await house.call("POST", TOKENS, {"name": "x", "scopes": ["read"]}, headers={"content-type": "text/plain"})
    ).status == 415
    assert (await house.call("DELETE", f"{TOKENS}/ci", headers=foreign)).status == 403
    assert [token.name for token in await house.store.tokens()] == ["ci"]
