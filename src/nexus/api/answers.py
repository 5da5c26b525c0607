"""What goes back to a caller: answers as values, and errors in the form each API speaks.

v1 speaks text, because its existing clients do: an unknown run answered as text/plain ends the real client's process, and one
answered as text/html does not, so every 404 of v1 is HTML. ``latest`` speaks JSON. Pure but for the log line of the unexpected.
"""

from __future__ import annotations

import html
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from nexus.kernel.documents import Finding
from nexus.kernel.errors import Busy, NexusError, NotFound, Unauthenticated, Unavailable, WrongMethod

Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"
BYTES = b"application/octet-stream"

encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. ``headers`` come beside content type and length."""

    status: int
    body: bytes = b""
    content_type: bytes = TEXT
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """An answer sent in pieces; ``size_bytes`` is exact."""

    pieces: AsyncIterator[bytes]
    size_bytes: int
    content_type: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


def as_json(value: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    """*value* as JSON."""
    return Answer(status, encode(value), JSON, headers)


class RefusedFindings(Exception):
    """Manifests with errors: the error and every finding, for the JSON form."""

    def __init__(self, error: NexusError, findings: Sequence[Finding]) -> None:
        super().__init__(error.message)
        self.error = error
        self.findings = findings


def finding_view(finding: Finding) -> dict[str, Any]:
    """A finding as the wire shows it."""
    names = ("file", "line", "column", "code", "message", "hint", "severity")
    return {name: getattr(finding, name) for name in names}


def refusal(error: NexusError, *, as_text: bool, findings: Sequence[Finding] = ()) -> Answer:
    """The answer an error becomes. A missing or unknown token is text for every caller."""
    headers = _headers(error)
    if as_text or isinstance(error, Unauthenticated):
        if isinstance(error, NotFound):
            page = f"<!doctype html><title>Not found</title><p>{html.escape(error.text())}</p>\n"
            return Answer(error.status, _bytes(page), HTML, headers)
        return Answer(error.status, _bytes(error.text() + "\n"), TEXT, headers)
    said: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
    if findings:
        said["findings"] = [finding_view(finding) for finding in findings]
    return Answer(error.status, encode({"error": _plain(said)}), JSON, headers)


def unexpected(incident: str, *, as_text: bool) -> Answer:
    """The answer to what nobody foresaw: an id that is also in the log, and nothing of the inside."""
    message = f"something went wrong inside the service; its log names it `{incident}`"
    if as_text:
        return Answer(500, f"error[NX000]: {message}\n".encode(), TEXT)
    return Answer(500, encode({"error": {"code": "NX000", "message": message, "hint": "tell the operator this id"}}), JSON)


def _headers(error: NexusError) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, Busy):
        return ((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()),)
    if isinstance(error, Unavailable):
        return ((b"retry-after", b"1"),)
    if isinstance(error, Unauthenticated):
        return ((b"www-authenticate", b'Bearer realm="nexus"'),)
    if isinstance(error, WrongMethod):
        return ((b"allow", ", ".join(error.allow).encode()),)
    return ()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """The value without lone surrogates, which no JSON text can carry."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
