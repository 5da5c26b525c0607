"""One request to the service, tried again where that is safe and useful. Used by :mod:`nexus.sdk.client` alone.

Every request of the client may be repeated: reads by nature, cancel and apply because they are idempotent, submits because
they carry an idempotency key. aiohttp is imported on the first request, not with this module (it costs over 100 ms).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import msgspec

from nexus.kernel.errors import InvalidInput, NexusError, ServiceError, ServiceUnreachable, Unavailable
from nexus.sdk import retry
from nexus.sdk.answers import error_of

if TYPE_CHECKING:
    import aiohttp

_CONNECT_S = 10.0
_READ_S = 120.0
_CHUNK = 1 << 18
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")  # what OpenSSL calls an answer in the clear


class Envelope(msgspec.Struct, frozen=True):
    """A request body whose middle may be a file, which is streamed."""

    head: bytes
    middle: bytes | Path
    tail: bytes

    @property
    def size_bytes(self) -> int:
        middle = self.middle.stat().st_size if isinstance(self.middle, Path) else len(self.middle)
        return len(self.head) + middle + len(self.tail)

    def whole(self) -> bytes | None:
        """The body in one piece when it is in memory anyway."""
        return None if isinstance(self.middle, Path) else self.head + self.middle + self.tail

    async def pieces(self) -> AsyncIterator[bytes]:
        assert isinstance(self.middle, Path)
        yield self.head
        file = await asyncio.to_thread(self.middle.open, "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk
        finally:
            file.close()
        yield self.tail


class Answer(msgspec.Struct, frozen=True):
    """A successful answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def decode(self, type_: Any) -> Any:
        """The body as a value of *type_*. Raises ServiceError."""
        try:
            return msgspec.json.decode(self.body, type=type_)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ServiceError(
                f"the service answered with something this client cannot read: {error}",
                hint="is it a Nexus service of the same version? `nexus doctor` looks",
            ) from error


class Transport:
    """Requests to one service. ``retry_for`` bounds, in seconds, all tries of one request together."""

    def __init__(self, server: str, token: str, retry_for: float) -> None:
        self.server = _checked(server)
        self.retry_for = retry_for
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        read_s: float = _READ_S,
    ) -> Answer:
        """The service's answer, a success. *body* is an Envelope, or a value sent as JSON.

        Raises the error the service names, ServiceUnreachable when none answers in time.
        """
        url = self.server + path + _query(query)
        answer: Answer = await self._repeated(lambda: self._once(method, url, headers or {}, body, read_s))
        return answer

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: Any, read_s: float) -> Answer:
        import aiohttp
        from yarl import URL

        sent: dict[str, str] = {**self._authorization(), **headers}
        data: Any = None
        if isinstance(body, Envelope):
            sent["Content-Type"] = "application/json"
            sent["Content-Length"] = str(body.size_bytes)
            data = body.whole() if isinstance(body.middle, bytes) else body.pieces()
        elif body is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=read_s)
        request = self._open().request(
            method, URL(url, encoded=True), data=data, headers=sent, timeout=timeout, allow_redirects=False
        )
        async with request as response:
            content = await response.read()
            _refuse(response.status, response.headers, content)
            return Answer(response.status, response.headers, content)  # headers stay case-insensitive

    @asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body behind a signed URL, piece by piece. No token goes along: the signature is the right to read."""
        import aiohttp
        from yarl import URL

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
        response: aiohttp.ClientResponse = await self._repeated(lambda: self._begin(URL(url, encoded=True), timeout))
        async with response:
            yield _pieces(response)

    async def _begin(self, url: Any, timeout: Any) -> aiohttp.ClientResponse:
        response = await self._open().get(url, timeout=timeout)
        if response.status != 200:
            async with response:
                _refuse(response.status, response.headers, await response.read())
        return response

    async def _repeated(self, attempt: Callable[[], Any]) -> Any:
        import aiohttp

        deadline = time.monotonic() + self.retry_for
        tries = 0
        while True:
            tries += 1
            asked: float | None = None
            try:
                return await attempt()
            except aiohttp.ClientSSLError as error:
                raise self._untrusted(error) from error
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                failure: NexusError = self._unreachable(error)
            except _Refused as refused:
                if refused.status not in retry.RETRIED_STATUSES:
                    raise refused.error from None
                failure, asked = refused.error, refused.retry_after_s
            pause = retry.delay_s(tries, random.random(), asked)  # noqa: S311 - jitter, not a secret
            if time.monotonic() + pause > deadline:
                raise failure
            await asyncio.sleep(pause)

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(limit=64, ttl_dns_cache=60)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _unreachable(self, error: BaseException) -> NexusError:
        import aiohttp

        number = getattr(error, "errno", None)
        why = os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
        hint = "start one with `nexus serve`, or name another with --server or NEXUS__SERVER"
        if isinstance(error, aiohttp.ServerDisconnectedError) and self.server.startswith("http://"):
            hint += "; the address of one with TLS begins with https://"
        return ServiceUnreachable(f"no service answers at `{self.server}`: {why}", hint=hint)

    def _untrusted(self, error: BaseException) -> NexusError:
        if any(reason in str(error) for reason in _NO_TLS):
            hint = "the address of a service without TLS begins with http://"
            return ServiceUnreachable(f"what answers at `{self.server}` does not speak TLS", hint=hint)
        hint = "SSL_CERT_FILE names a file with the certificates to trust, such as the service's own"
        return ServiceUnreachable(f"`{self.server}` cannot be trusted: {error}", hint=hint)


class _Refused(Exception):
    """An answer that is no success, before it is decided whether to try again."""

    def __init__(self, status: int, error: NexusError, retry_after_s: float | None) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error
        self.retry_after_s = retry_after_s


def _refuse(status: int, headers: Mapping[str, str], body: bytes) -> None:
    if status < 300:
        return
    asked = retry.retry_after_s(headers.get("Retry-After"))
    error = error_of(status, body, asked)
    if 300 <= status < 400:
        error = Unavailable(f"the service answered {status} and points elsewhere, to `{headers.get('Location', '')}`",
                            hint="give the address it points to with --server")  # fmt: skip
    raise _Refused(status, error, asked)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    import aiohttp

    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceError(f"the download broke off: {error}", hint="try again") from error


def _checked(server: str) -> str:
    try:
        parts = urlsplit(server)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not (parts.username or parts.query or parts.fragment) and server.isprintable()
    except ValueError:  # a port that is no number, a bracket that is not closed
        usable = False
    if not usable or " " in server:
        shown = re.sub(r"//[^/]*@", "//…@", server)  # a password is nothing to print
        raise InvalidInput(f"`{shown}` is not the address of a service", hint="for example http://127.0.0.1:8080")
    return server.rstrip("/")


def _query(query: Mapping[str, Any] | None) -> str:
    given = {key: value for key, value in (query or {}).items() if value is not None}
    return "?" + urlencode(given) if given else ""
