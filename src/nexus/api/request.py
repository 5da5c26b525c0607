"""One request as handlers see it: path parts, query, headers and body, each with its limit. Called by the routes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from nexus.kernel.access import Principal
from nexus.kernel.errors import InvalidEnvelope, InvalidInput, PayloadTooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_QUERY_BYTES = 8 * 1024
MAX_FIELDS = 50
_SINGLE = (b"host", b"authorization", b"content-type", b"origin", b"idempotency-key", b"sec-fetch-site")
_NUMBER = re.compile(r"\d{1,18}")
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")
_T = TypeVar("_T")


class ClientGone(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


class Request:
    """What a handler gets. ``api`` is ``v1`` or ``latest``; ``parts`` are the variable parts of the path, decoded."""

    __slots__ = ("api", "headers", "parts", "principal", "receive", "scope")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
        parts: tuple[str, ...],
        api: str,
        principal: Principal,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.headers = headers
        self.parts = parts
        self.api = api
        self.principal = principal

    @property
    def strict(self) -> bool:
        """Whether unknown fields are refused."""
        return self.api == "latest"

    def query(self) -> dict[str, str]:
        """The query's fields. Raises InvalidInput: too many, one given twice, not UTF-8."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        if len(raw) > MAX_QUERY_BYTES:
            raise InvalidInput(f"the query has {len(raw)} bytes; at most {MAX_QUERY_BYTES} are read")
        try:
            pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError as error:  # UnicodeDecodeError is one
            raise InvalidInput("the query of the address cannot be read", hint="percent-encode its values as UTF-8") from error
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise InvalidInput("a field of the query is given twice", hint="give each once")
        return fields

    def content_length(self) -> int | None:
        """The declared length of the body in bytes; None when it is sent in chunks (or nothing is sent)."""
        given = self.headers.get(b"content-length")
        return int(given) if given is not None and given.isdigit() else None

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises PayloadTooLarge beyond *limit* bytes, ClientGone."""
        check_length(self.content_length(), limit)
        data, more = await self.take(limit)
        if more:
            raise too_large(limit)
        return data

    async def take(self, limit: int) -> tuple[bytes, bool]:
        """The body up to the first piece beyond *limit* bytes, and whether that is not all, or too much. Raises ClientGone."""
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        data: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if not more:
            return data, len(data) > limit
        pieces, size = [data], len(data)
        while more and size <= limit:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            more = message.get("more_body", False)
        return b"".join(pieces), more or size > limit

    async def rest(self) -> AsyncIterator[bytes]:
        """What is left of the body after :meth:`take`, in pieces. Raises ClientGone."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return

    async def json(self, kind: type[_T], limit: int) -> _T:
        """The body as a value of *kind*. Raises InvalidEnvelope; unknown fields are refused where the API is strict."""
        data = await self.body(limit)
        if not data:
            raise InvalidEnvelope("the body is empty", hint=_fields_hint(kind))
        try:
            if not data.isascii():
                data.decode()  # the decoder looks at no field it does not know
            value = msgspec.json.decode(data, type=kind)
            names = _members(data) if self.strict else []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidEnvelope(f"the body cannot be read: {error}", hint=_fields_hint(kind)) from error
        except RecursionError as error:
            raise InvalidEnvelope("the body is nested too deep") from error
        if self.strict:
            doubled = sorted(name for name, times in Counter(names).items() if times > 1)
            if doubled:
                raise InvalidEnvelope(
                    f"`{'`, `'.join(name[:64] for name in doubled[:10])}` is given twice", hint="keep one of them"
                )
            unknown = sorted(set(names) - _names(kind))
            if unknown:
                raise InvalidEnvelope(
                    f"`{'`, `'.join(name[:64] for name in unknown[:10])}` is no field of this", hint=_fields_hint(kind)
                )
        return value


def check_length(length: int | None, limit: int) -> None:
    """Raises PayloadTooLarge when the declared length is beyond *limit* bytes."""
    if length is not None and length > limit:
        raise too_large(limit, length)


def too_large(limit: int, length: int | None = None) -> PayloadTooLarge:
    """The error for a body beyond *limit* bytes."""
    size = f"has {length} bytes" if length is not None else "is larger"
    return PayloadTooLarge(
        f"the body {size}; at most {limit} bytes are taken", hint="send a reference to the data instead of the data"
    )


def header_map(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by lower-case name. Raises InvalidInput when one that decides something is given twice."""
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise InvalidInput(f"the header `{name.decode()}` is given twice", hint="send it once")
    return headers


def whole(query: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int = 2**62) -> int:
    """A whole number of the query. Raises InvalidInput."""
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise InvalidInput(f"`{name}` is `{text[:32]}`", hint=f"a whole number from {least} to {most}")
    return int(text)


def seconds(query: Mapping[str, str], name: str, most_s: float) -> float:
    """A length of time in seconds, 0 when absent; more than *most_s* is taken as that. Raises InvalidInput."""
    text = query.get(name)
    if not text:
        return 0.0
    if not _SECONDS.fullmatch(text):
        raise InvalidInput(f"`{name}` is `{text[:32]}`", hint=f"seconds, from 0 to {most_s:g}")
    return min(float(text), most_s)


def flag(query: Mapping[str, str], name: str) -> bool:
    """``true`` or ``false`` (the default). Raises InvalidInput."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidInput(f"`{name}` is `{text[:32]}`", hint="`true` or `false`")
    return text == "true"


def _members(data: bytes) -> list[str]:
    """The names of the object's fields as they stand there, doubled ones too."""
    import json

    names: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in items]  # the outermost object comes last

    json.loads(data, object_pairs_hook=pairs, parse_int=str)
    return names


def _fields_hint(kind: Any) -> str:
    return f"fields: `{'`, `'.join(sorted(_names(kind)))}`"


def _names(kind: Any) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}
