"""Access tokens of a running service: made, listed, revoked by whoever may operate it. A token's text is in one answer only.

A token made here is good at once and a revoked one is not, because the doors read the list again. Without a service the same
is done on its data folder (``nexus tokens``).
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from nexus.api.answers import Answer, as_json
from nexus.api.request import Request
from nexus.api.routes import LATEST, Route
from nexus.api.services import Context
from nexus.kernel.access import Scope, Token, issue_token
from nexus.kernel.clock import rfc3339
from nexus.kernel.errors import Conflict

log = logging.getLogger("nexus.api")

MAX_TOKENS = 1_000
_MAX_BODY = 16 * 1024
_UNSEEN = ((b"cache-control", b"no-store"),)


class CreateToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``scopes`` are of ``submit``, ``read``, ``operate``; ``expires`` is a duration such as ``30d``, for ever unless given."""

    name: str
    scopes: list[str]
    expires: str = ""


class TokenView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A token without its text, which is kept nowhere. ``expiresAt`` is left out when it never does."""

    name: str
    scopes: list[str]
    created_at: str
    expires_at: str = ""
    expired: bool = False


class TokenList(msgspec.Struct, frozen=True):
    tokens: list[TokenView]


class NewToken(TokenView, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A new token. ``token`` is its text, shown this once."""

    token: str


async def list_tokens(context: Context, request: Request) -> Answer:
    kept = await context.services.tokens.tokens()
    return as_json(TokenList([TokenView(**_fields(context, token)) for token in kept]))


async def create_token(context: Context, request: Request) -> Answer:
    """Keeps a token and shows its text. Raises Conflict when the name is taken, InvalidInput."""
    asked = await request.json(CreateToken, _MAX_BODY)
    services = context.services
    if len(await services.tokens.tokens()) >= MAX_TOKENS:
        raise Conflict(f"there are {MAX_TOKENS} tokens already", hint="revoke those nobody needs: `nexus tokens list`")
    text, token = issue_token(asked.name, asked.scopes, asked.expires, services.clock.now())
    await services.tokens.add_token(token)
    await context.gate.refresh()
    log.info("token.created", extra={"fields": {"token": token.name, "scopes": sorted(token.scopes), "by": request.principal.name}})
    shown = as_json(NewToken(token=text, **_fields(context, token)), 201)
    return Answer(shown.status, shown.body, shown.content_type, _UNSEEN)


async def revoke_token(context: Context, request: Request) -> Answer:
    """Forgets a token; from now on it opens nothing. Raises NotFound."""
    await context.services.tokens.revoke_token(request.parts[0])
    await context.gate.refresh()
    log.info("token.revoked", extra={"fields": {"token": request.parts[0], "by": request.principal.name}})
    return Answer(200)


def _fields(context: Context, token: Token) -> dict[str, Any]:
    expires = token.expires_at
    return {
        "name": token.name,
        "scopes": sorted(scope.value for scope in token.scopes),
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(expires) if expires else "",
        "expired": expires is not None and expires <= context.services.clock.now(),
    }


ROWS = (
    Route(
        name="list-tokens", method="GET", path="/algorithm/{api}/tokens", apis=LATEST, handler=list_tokens, group="service",
        doc="The access tokens there are, without their texts.", scope=Scope.OPERATE, gives=TokenList,
    ),
    Route(
        name="create-token", method="POST", path="/algorithm/{api}/tokens", apis=LATEST, handler=create_token, group="service",
        doc="Make an access token. Its text is in this answer and nowhere else; it is good at once.",
        scope=Scope.OPERATE, takes=CreateToken, gives=NewToken, status=201,
        statuses={400: "The name, a scope or the expiry cannot be.", 409: "The name is taken."},
    ),
    Route(
        name="revoke-token", method="DELETE", path="/algorithm/{api}/tokens/{name}", apis=LATEST, handler=revoke_token,
        group="service", doc="Revoke an access token: from now on it opens nothing.", scope=Scope.OPERATE, gives="text/plain",
        statuses={404: "No token has this name."},
    ),
)  # fmt: skip
