"""``nexus tokens``: access tokens of a data folder that no service holds. A token's text is shown once and stored nowhere."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output

if TYPE_CHECKING:
    from nexus.kernel.access import Token

COLUMNS = ("name", "scopes", "created", "expires", "state")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_DAYS = re.compile(r"(\d{1,5})d")
data_dir_option = click.option(
    "--data-dir", metavar="FOLDER", help="Data folder of the service.  [default: NEXUS__DATA_DIR, else the platform's]"
)


@click.group(no_args_is_help=True)
def tokens() -> None:
    """Access tokens: create, list, revoke. They work on a data folder while no service runs on it.

    Example: nexus tokens create ci --scope submit --scope read --expires 30d
    """


@tokens.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(("submit", "read", "operate")),
              help="What it allows (again for more).")  # fmt: skip
@click.option("--expires", metavar="DURATION", help="How long it is good for, such as `30d` or `12h`.  [default: for ever]")
@data_dir_option
@output.output_option()
def create(name: str, scopes: tuple[str, ...], expires: str | None, data_dir: str | None, fmt: str) -> None:
    """Create a token. Its text is printed, this once.

    Example: nexus tokens create ci --scope submit --scope read --expires 30d
    """
    from nexus.kernel.access import ANONYMOUS, Scope, Token, make_token
    from nexus.kernel.clock import SystemClock
    from nexus.kernel.errors import InvalidInput

    if not _NAME.fullmatch(name) or name == ANONYMOUS:
        raise InvalidInput(f"`{name}` cannot be a token's name", hint="letters, digits, `.`, `_`, `@` and `-`, at most 100")
    now = SystemClock().now()
    text, digest = make_token()
    token = Token(
        name=name,
        digest=digest,
        scopes=frozenset(Scope(scope) for scope in scopes),
        created_at=now,
        expires_at=_expiry(now, expires),
    )
    asyncio.run(_add(data_dir, token))
    if fmt == "table":
        sys.stdout.write(text + "\n")
    else:
        output.emit_one({**_row(token, now), "token": text}, fmt)
    output.note(f"token `{name}` is shown this once; use it as NEXUS__TOKEN")


@tokens.command(name="list")
@data_dir_option
@output.output_option()
def list_(data_dir: str | None, fmt: str) -> None:
    """List the tokens, without their texts.

    Example: nexus tokens list -o json
    """
    from nexus.kernel.clock import SystemClock

    now = SystemClock().now()
    output.emit([_row(token, now) for token in asyncio.run(_all(data_dir))], fmt, COLUMNS, empty="no tokens")


@tokens.command()
@click.argument("name")
@data_dir_option
def revoke(name: str, data_dir: str | None) -> None:
    """Revoke a token.

    Example: nexus tokens revoke ci
    """
    asyncio.run(_revoke(data_dir, name))
    output.note(f"token `{name}` is revoked")


async def _add(data_dir: str | None, token: Token) -> None:
    from nexus.app.offline import open_tokens

    async with open_tokens(_folder(data_dir)) as store:
        await store.add_token(token)


async def _all(data_dir: str | None) -> Sequence[Token]:
    from nexus.app.offline import open_tokens

    async with open_tokens(_existing(data_dir)) as store:
        return await store.tokens()


async def _revoke(data_dir: str | None, name: str) -> None:
    from nexus.app.offline import open_tokens

    async with open_tokens(_existing(data_dir)) as store:
        await store.revoke_token(name)


def _folder(data_dir: str | None) -> str:
    from nexus.app.settings import resolve

    return resolve({"data_dir": data_dir})[0].data_dir


def _existing(data_dir: str | None) -> str:
    """The folder, unless nothing was ever kept there: reading a mistyped one must not make it. Raises InvalidInput."""
    from nexus.kernel.errors import InvalidInput

    folder = _folder(data_dir)
    if folder and not (Path(folder) / "nexus.db").exists():
        raise InvalidInput(f"`{folder}` is no data folder", hint="name that of the service with `--data-dir` or NEXUS__DATA_DIR")
    return folder


def _expiry(now: datetime, expires: str | None) -> datetime | None:
    from nexus.kernel.errors import InvalidInput
    from nexus.kernel.units import parse_duration

    if expires is None:
        return None
    days = _DAYS.fullmatch(expires)
    try:
        length = timedelta(days=int(days[1])) if days else parse_duration(expires)
        if not length:
            raise ValueError(f"`{expires}` is no time at all")
        return now + length
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"--expires: {error}", hint="for example `30d` or `12h`") from None


def _row(token: Token, now: datetime) -> dict[str, Any]:
    expired = token.expires_at is not None and token.expires_at <= now
    return {
        "name": token.name,
        "scopes": sorted(scope.value for scope in token.scopes),
        "created": _instant(token.created_at),
        "expires": _instant(token.expires_at) if token.expires_at else "never",
        "state": "expired" if expired else "valid",
    }


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
