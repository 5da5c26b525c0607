"""``nexus tokens``: access tokens, of a data folder that no service holds or of a service that runs.

Both ways make the same tokens. A token's text is shown once and stored nowhere.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.core import ParameterSource

from nexus.cli import output

if TYPE_CHECKING:
    from nexus.kernel.access import Token, TokenStore
    from nexus.sdk import Nexus

COLUMNS = ("name", "scopes", "created", "expires", "state")
_SERVER = "http://127.0.0.1:8080"
_QUICK_S = 3.0
Row = dict[str, Any]


class Tokens(Protocol):
    """Where tokens are kept; ``place`` says it to a person."""

    place: str

    def create(self, name: str, scopes: tuple[str, ...], expires: str) -> tuple[Row, str]:
        """The new token and its text."""
        ...

    def every(self) -> list[Row]: ...

    def revoke(self, name: str) -> None: ...


@click.group(no_args_is_help=True)
def tokens() -> None:
    """Access tokens: create, list, revoke.

    With --data-dir they are those of that folder, while no service runs on it; with --server (or NEXUS__SERVER) those of that
    service, for a caller who may operate it. With neither: of the usual data folder, or, while a service holds it, of the
    service on this machine.

    Example: nexus tokens create ci --scope submit --scope read --expires 30d
    """


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--data-dir``, ``--server`` and ``--token``; the command gets its Tokens as ``kept``."""

    @click.option("--data-dir", metavar="FOLDER", help="Data folder that no service holds.  [env var: NEXUS__DATA_DIR]")
    @click.option("--server", envvar="NEXUS__SERVER", show_envvar=True, help="Address of a service that runs.")
    @click.option(
        "--token", envvar="NEXUS__TOKEN", show_envvar=True, help="Access token for it; better in the environment than here."
    )
    @functools.wraps(command)
    def with_tokens(*args: Any, data_dir: str | None, server: str | None, token: str | None, **kwargs: Any) -> Any:
        from nexus.kernel.errors import FolderInUse, ServiceUnreachable

        asked = click.get_current_context().get_parameter_source("server") is ParameterSource.COMMANDLINE
        kept, otherwise = _choose(data_dir, server, token, asked=asked)
        try:
            return command(*args, kept=kept, **kwargs)
        except FolderInUse as error:
            if otherwise is None:
                error.hint = "ask that service: the same command with --server and its address instead of --data-dir"
                raise
            try:
                return command(*args, kept=otherwise, **kwargs)
            except ServiceUnreachable:
                error.hint = f"no service answers at {otherwise.place}: name the address of that service with --server"
                raise error from None

    return with_tokens


def _choose(data_dir: str | None, server: str | None, token: str | None, *, asked: bool) -> tuple[Tokens, Tokens | None]:
    """Where the tokens are, and where else when a service holds that. *asked*: the service was named on the command line."""
    from nexus.app.settings import resolve
    from nexus.kernel.errors import InvalidInput

    if data_dir is not None and asked:
        raise InvalidInput("`--data-dir` and `--server` name two places", hint="give the one whose tokens are meant")
    if data_dir is not None:
        return InFolder(data_dir), None
    if asked:
        return AtService(server or _SERVER, token), None
    folder, configured = next((each.value, each.origin != "default") for each in resolve()[1] if each.name == "data_dir")
    if server and not configured:
        return AtService(server, token), None
    return InFolder(folder), AtService(server or _SERVER, token)


@tokens.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(("submit", "read", "operate")),
              help="What it allows (again for more).")  # fmt: skip
@click.option("--expires", metavar="DURATION", help="How long it is good for, such as `30d` or `12h`.  [default: for ever]")
@output.output_option()
@place_options
def create(name: str, scopes: tuple[str, ...], expires: str | None, fmt: str, kept: Tokens) -> None:
    """Create a token. Its text is printed, this once.

    Example: nexus tokens create ci --scope submit --scope read --expires 30d
    """
    row, text = kept.create(name, scopes, expires or "")
    if fmt == "table":
        sys.stdout.write(text + "\n")
    else:
        output.emit_one({**row, "token": text}, fmt)
    output.note(f"token `{name}` of {kept.place} is shown this once; use it as NEXUS__TOKEN")


@tokens.command(name="list")
@output.output_option()
@place_options
def list_(fmt: str, kept: Tokens) -> None:
    """List the tokens, without their texts.

    Example: nexus tokens list -o json
    """
    output.emit(kept.every(), fmt, COLUMNS, empty="no tokens")


@tokens.command()
@click.argument("name")
@place_options
def revoke(name: str, kept: Tokens) -> None:
    """Revoke a token. It opens nothing any more.

    Example: nexus tokens revoke ci
    """
    kept.revoke(name)
    output.note(f"token `{name}` of {kept.place} is revoked")


def _usual() -> str:
    from nexus.adapters.folder import default_data_folder

    return f"`{default_data_folder()}`, the usual data folder (another: --data-dir; a service that runs: --server),"


class InFolder:
    """The tokens of a data folder; an empty name means the usual one. Every method raises FolderInUse while a service holds it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.place = f"`{self._folder}`" if self._folder else _usual()

    def create(self, name: str, scopes: tuple[str, ...], expires: str) -> tuple[Row, str]:
        from nexus.kernel.access import issue_token

        now = _now()
        text, token = issue_token(name, scopes, expires, now)

        async def add(store: TokenStore) -> None:
            await store.add_token(token)

        asyncio.run(self._with(add))
        return _row_of(token, now), text

    def every(self) -> list[Row]:
        self._check()

        async def read(store: TokenStore) -> list[Token]:
            return list(await store.tokens())

        now = _now()
        return [_row_of(token, now) for token in asyncio.run(self._with(read))]

    def revoke(self, name: str) -> None:
        self._check()

        async def forget(store: TokenStore) -> None:
            await store.revoke_token(name)

        asyncio.run(self._with(forget))

    async def _with(self, act: Callable[[TokenStore], Any]) -> Any:
        from nexus.app.offline import open_tokens

        async with open_tokens(self._folder) as store:
            return await act(store)

    def _check(self) -> None:
        """Raises InvalidInput when nothing was ever kept there: reading a mistyped folder must not make it."""
        from nexus.kernel.errors import InvalidInput

        if self._folder and not (Path(self._folder) / "nexus.db").exists():
            hint = "name that of the service with `--data-dir` or NEXUS__DATA_DIR"
            raise InvalidInput(f"`{self._folder}` is no data folder", hint=hint)


class AtService:
    """The tokens of a service that runs."""

    def __init__(self, server: str, token: str | None) -> None:
        self.place = server
        self._token = token

    def create(self, name: str, scopes: tuple[str, ...], expires: str) -> tuple[Row, str]:
        with self._connect() as nexus:
            made = nexus.create_token(name, scopes, expires=expires)
        return _row(made.name, made.scopes, made.created_at, made.expires_at, expired=made.expired), made.token

    def every(self) -> list[Row]:
        with self._connect() as nexus:
            kept = nexus.tokens()
        return [_row(each.name, each.scopes, each.created_at, each.expires_at, expired=each.expired) for each in kept]

    def revoke(self, name: str) -> None:
        with self._connect() as nexus:
            nexus.revoke_token(name)

    def _connect(self) -> Nexus:
        from nexus.sdk import Nexus

        return Nexus(self.place, self._token, retry_for=_QUICK_S)


def _row_of(token: Token, now: datetime) -> Row:
    scopes = sorted(scope.value for scope in token.scopes)
    expired = token.expires_at is not None and token.expires_at <= now
    return _row(token.name, scopes, token.created_at, token.expires_at, expired=expired)


def _row(name: str, scopes: list[str], created: datetime, expires: datetime | None, *, expired: bool) -> Row:
    return {
        "name": name,
        "scopes": scopes,
        "created": _instant(created),
        "expires": _instant(expires) if expires else "never",
        "state": "expired" if expired else "valid",
    }


def _now() -> datetime:
    from nexus.kernel.clock import SystemClock

    return SystemClock().now()


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
