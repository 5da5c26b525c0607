"""HTTP for an algorithm's process: the standard library's blocking client, tried again where that helps.

An algorithm makes about four requests in its life and computes in between, so it needs neither an event loop nor a pool of
connections: ``http.client`` is imported in a third of aiohttp's time, which every start of every run would pay.
"""

from __future__ import annotations

import email.message
import http.client
import json
import random
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from nexus.kernel.errors import InvalidInput, NexusError, ServiceError, ServiceUnreachable
from nexus.sdk import retry
from nexus.sdk.answers import error_of

_TIMEOUT_S = 60.0
_REDIRECTS = 5
_RETRIED = retry.RETRIED_STATUSES | {500}


class Reply(msgspec.Struct, frozen=True):
    """An answer, read to its end."""

    status: int
    headers: email.message.Message  # case-insensitive
    body: bytes

    def decode(self, type_: Any) -> Any:
        """The body as a value of *type_*. Raises ServiceError."""
        try:
            return msgspec.json.decode(self.body, type=type_)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ServiceError(f"the service answered with something this SDK cannot read: {error}") from error


def request(
    method: str,
    url: str,
    *,
    body: bytes | Path | None = None,
    headers: Mapping[str, str] | None = None,
    token: str = "",
    retry_for: float = 60.0,
    timeout: float = _TIMEOUT_S,
) -> Reply:
    """The answer, a success; tried again on 429, 5xx and connection errors for *retry_for* seconds in all.

    Raises the error the service names, ServiceUnreachable when none answers. *token* is not sent on to another host.
    """
    deadline = time.monotonic() + retry_for
    tries = 0
    while True:
        tries += 1
        asked: float | None = None
        try:
            reply = _followed(method, url, body, dict(headers or {}), token, timeout)
            if reply.status < 300:
                return reply
            asked = retry.retry_after_s(reply.headers.get("Retry-After"))
            failure: NexusError = error_of(reply.status, reply.body, asked)
            if reply.status not in _RETRIED:
                raise failure
        except (OSError, http.client.HTTPException) as error:
            failure = ServiceUnreachable(f"`{_place(url)}` does not answer: {error or type(error).__name__}")
            failure.__cause__ = error
            if isinstance(error, ssl.SSLError):
                raise failure from error
        pause = retry.delay_s(tries, random.random(), asked)  # noqa: S311 - jitter, not a secret
        if time.monotonic() + pause > deadline:
            raise failure
        time.sleep(pause)


def post_json(url: str, value: Any, *, token: str = "", headers: Mapping[str, str] | None = None, retry_for: float = 60.0) -> Reply:
    """The answer to a POST of *value*."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    return request("POST", url, body=json.dumps(value).encode(), headers=sent, token=token, retry_for=retry_for)


def _followed(method: str, url: str, body: bytes | Path | None, headers: dict[str, str], token: str, timeout: float) -> Reply:
    origin = urlsplit(url)[:2]
    for _ in range(_REDIRECTS):
        authorization = {"Authorization": f"Bearer {token}"} if token and urlsplit(url)[:2] == origin else {}
        reply = _once(method, url, body, {**headers, **authorization}, timeout)
        if method != "GET" or reply.status not in (301, 302, 303, 307, 308):
            return reply
        url = urljoin(url, str(reply.headers.get("Location", "")))
    return reply


def _once(method: str, url: str, body: bytes | Path | None, headers: dict[str, str], timeout: float) -> Reply:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"`{_place(url)}` is no address this SDK can reach", hint="http and https are understood")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        if isinstance(body, Path):
            headers["Content-Length"] = str(body.stat().st_size)
            with body.open("rb") as file:
                connection.request(method, target, file, headers)
        else:
            connection.request(method, target, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def _place(url: str) -> str:
    """The URL without its query: signatures are secrets."""
    return url.partition("?")[0]
