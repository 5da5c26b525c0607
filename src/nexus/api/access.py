"""Who asks, and from where: tokens, the run's own token, loopback rules, hosts and origins. Called once for each request.

Decisions are pure over headers and peer; the one effect is reading the list of tokens, now and then. Rules (contract,
"Access"): loopback without a token is the local operator; a token that is present always counts; ``Host`` must be loopback or
configured, which keeps a browser that was lured to another name's address out; a page of another origin is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from nexus.kernel.access import LOCAL_OPERATOR, Principal, Scope, Token, TokenStore, digest
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ForeignOrigin, InvalidInput, InvalidSetting, Unauthenticated
from nexus.runs.urls import RUN_TOKEN_PREFIX, Signer

REFRESH_S = 30.0  # how long a revoked token may live on
RETRY_S = 1.0  # how often an unknown token makes the list be read again
_MAX_TOKEN = 512
_PROXY_HEADERS = frozenset({b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip"})
_LOOPBACK_PEERS = frozenset({"127.0.0.1", "::1"})


class Gate:
    """Lets requests in. One a service; safe to share between the ports of a process."""

    def __init__(
        self,
        tokens: TokenStore,
        signer: Signer,
        clock: Clock,
        *,
        require_token: bool = False,
        behind_proxy: bool = False,
        allowed_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._tokens = tokens
        self._signer = signer
        self._clock = clock
        self._anonymous_allowed = not (require_token or behind_proxy)  # behind a proxy every caller looks local
        self._any_host = "*" in allowed_hosts
        self._hosts = frozenset(host.lower() for host in allowed_hosts)
        self._known_hosts: set[bytes] = set()
        self._by_digest: dict[bytes, Token] = {}
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Reads the tokens again. Raises what the store raises."""
        self._by_digest = {token.digest: token for token in await self._tokens.tokens()}
        self._read_at = self._clock.monotonic()

    # ── where from ───────────────────────────────────────────────────────────────────────────────────────────────────

    def check_origin(self, headers: Mapping[bytes, bytes], method: str, server: tuple[str, int | None] | None) -> None:
        """Raises ForeignOrigin when the host name is not ours or a page of another origin asks."""
        host = headers.get(b"host", b"")
        if host not in self._known_hosts:
            self._check_host(host, server)
        if b"origin" in headers and not _same_origin(headers[b"origin"], host):
            raise ForeignOrigin("a page of another origin asked", hint="call the service from its own pages, or not from a browser")
        site = headers.get(b"sec-fetch-site")
        if site is not None and site not in (b"same-origin", b"none") and not _is_link(headers, method):
            raise ForeignOrigin("a page of another site asked", hint="call the service from its own pages, or not from a browser")

    def _check_host(self, host: bytes, server: tuple[str, int | None] | None) -> None:
        if not host:
            raise InvalidInput("the request has no `Host` header", hint="send the name or address of the service in it")
        given = host.decode("latin-1")
        name = host_name(given)
        ours = bool(name) and (
            is_loopback(name) or name in self._hosts or self._any_host or (server is not None and name == server[0])
        )
        if not ours:
            raise ForeignOrigin(
                f"the service is not called `{(name or given)[:128]}`",
                hint="use its own address, or name the host with `--allowed-hosts`",
            )
        if len(self._known_hosts) < 256:
            self._known_hosts.add(host)

    # ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def identify(self, headers: Mapping[bytes, bytes], peer: tuple[str, int] | None) -> Principal:
        """The caller. Raises Unauthenticated."""
        given = headers.get(b"authorization")
        if given is None or given == b"Bearer " or given == b"Bearer":  # existing clients send an empty one
            if self._anonymous_allowed and is_local_peer(peer) and headers.keys().isdisjoint(_PROXY_HEADERS):
                return LOCAL_OPERATOR
            raise Unauthenticated(
                "this needs a token", hint="send `Authorization: Bearer <token>`; `nexus tokens create` makes one"
            )
        scheme, _, text = given.decode("latin-1").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text or len(text) > _MAX_TOKEN:
            raise Unauthenticated("the `Authorization` header is not `Bearer <token>`")
        if text.startswith(RUN_TOKEN_PREFIX):
            return self._run(text)
        return await self._holder(text)

    def _run(self, text: str) -> Principal:
        run_id = self._signer.run_of(text)
        if run_id is None:
            raise Unauthenticated("nobody here made this token", hint="a run's token is good at the service that started it")
        return Principal(name=f"run:{run_id}", scopes=frozenset({Scope.RUN}), run_id=run_id)

    async def _holder(self, text: str) -> Principal:
        key = digest(text)
        age = self._clock.monotonic() - self._read_at
        if age > REFRESH_S or (key not in self._by_digest and age > RETRY_S):
            await self.refresh()
        token = self._by_digest.get(key)
        if token is None:
            raise Unauthenticated("nobody here made this token", hint="`nexus tokens list` shows the tokens there are")
        if token.expires_at is not None and self._clock.now() >= token.expires_at:
            raise Unauthenticated(f"the token `{token.name}` has expired", hint="`nexus tokens create` makes a new one")
        return Principal(name=token.name, scopes=token.scopes)


def host_name(host: str) -> str:
    """The name in a ``Host`` header: without port and brackets, in lower case; empty when it is none."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, _, port = host.partition(":")
    return "" if port and not port.isdigit() else name.removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_local_peer(peer: tuple[str, int] | None) -> bool:
    """Whether a connection comes from this machine."""
    return peer is not None and (peer[0] in _LOOPBACK_PEERS or is_loopback(peer[0].removeprefix("::ffff:")))


def check_bind(host: str, *, tls: bool, behind_proxy: bool, has_token: bool) -> None:
    """Raises InvalidSetting when a bind beyond loopback lacks a token, or TLS and a proxy."""
    if is_loopback(host_name(f"[{host}]" if ":" in host else host)):
        return
    if not tls and not behind_proxy:
        raise InvalidSetting(
            f"`--host {host}` is reachable from other machines and nothing is encrypted",
            hint="give `--tls-cert` and `--tls-key`, or `--behind-proxy` when a proxy in front does that",
        )
    if not has_token:
        raise InvalidSetting(
            f"`--host {host}` is reachable from other machines and there is no token",
            hint="make one first, in this data folder: `nexus tokens create NAME --scope SCOPE --data-dir FOLDER`",
        )


def _same_origin(origin: bytes, host: bytes) -> bool:
    scheme, _, name = origin.partition(b"://")
    return scheme in (b"http", b"https") and name.lower() == host.lower()


def _is_link(headers: Mapping[bytes, bytes], method: str) -> bool:
    """Whether a person followed a link: the page that has it never sees the answer, and reading changes nothing."""
    return (
        method in ("GET", "HEAD")
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") == b"document"
    )
