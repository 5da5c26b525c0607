"""The body of a create request: what is in it, where its parameters lie, and what is wrong with it. Pure.

Called for every ``POST run``. The parameters are checked (JSON, an object, UTF-8) and carried as the bytes they are; nothing
here builds a Python object of them. Works on bytes and on a mapped file alike, so a body of any size costs no memory.
"""

from __future__ import annotations

import codecs
import ctypes
import hashlib
import json
import re
from datetime import timedelta
from typing import Any

import msgspec

from nexus.kernel.errors import InvalidEnvelope, PayloadTooLarge
from nexus.kernel.ids import is_id
from nexus.kernel.units import parse_duration
from nexus.runs.model import ParentRef
from nexus.wire import v1

MAX_TAG = 256  # characters
MAX_NAME = 253  # characters; no registered algorithm has a longer one
MAX_API_VERSION = 64
MAX_ENVELOPE_BYTES = 256 * 1024  # the body without its parameters
SHORTEST_VALIDITY = timedelta(seconds=1)
LONGEST_VALIDITY = timedelta(days=366)

_PIECE = 256 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(v1.CreateRequest))
_PARENT = frozenset(field.encode_name for field in msgspec.structs.fields(v1.ParentRequest))
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
_decode = msgspec.json.Decoder(v1.CreateRequest).decode


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it was read. The parameters are the bytes ``[offset, offset + size_bytes)`` of the body.

    ``content_hash`` is the BLAKE2b-128 of those bytes; ``unknown`` names the fields this service does not know.
    """

    offset: int
    size_bytes: int
    content_hash: str
    inline: bytes | None = None
    overrides: bytes | None = None
    api_version: str = ""
    tag: str | None = None
    parent: ParentRef | None = None
    payload_valid_for: timedelta | None = None
    unknown: tuple[str, ...] = ()
    fingerprint: bytes | None = None


def read(body: bytes | memoryview, *, strict: bool, inline: bool, replay_of: bytes | None = None) -> Envelope:
    """What *body* says. Keeps no reference to it; with *inline* the parameters' bytes are copied.

    *strict* refuses unknown fields. *replay_of* is what a replay must repeat beside the body (``dryRun``); with it the
    fingerprint is made. Raises InvalidEnvelope with everything that is wrong, PayloadTooLarge for an oversized envelope.
    """
    if not (isinstance(body, bytes) and body.isascii()):
        _check_utf8(body)
    try:
        request = _decode(body)
    except msgspec.DecodeError as error:  # msgspec.ValidationError is one
        raise InvalidEnvelope(f"Algorithm payload is invalid: {_why(body, error)}", hint=_hint(body, error)) from error
    except RecursionError as error:
        raise InvalidEnvelope("Algorithm payload is invalid: it is nested too deep", hint="flatten the parameters") from error
    with memoryview(request.algorithmParameters) as parameters:
        if parameters[0] != 0x7B:
            raise InvalidEnvelope(
                f"Algorithm payload is invalid: `algorithmParameters` is {_kind(parameters[0])}, not an object",
                hint='wrap it: `{"algorithmParameters": {"value": …}}`',
            )
        if len(body) - len(parameters) > MAX_ENVELOPE_BYTES:
            raise PayloadTooLarge(
                f"the request has {len(body) - len(parameters)} bytes beside its parameters; {MAX_ENVELOPE_BYTES} are read",
                hint="put data into `algorithmParameters`",
            )
        kept = bytes(parameters) if inline else None
        unknown, offset = _look_around(body, request, parameters, kept)
        if strict and unknown:
            raise InvalidEnvelope(f"Algorithm payload is invalid: {_list(unknown)} is no field of a request", hint=_fields_hint())
        overrides = bytes(request.customConfiguration)
        return Envelope(
            offset=offset,
            size_bytes=len(parameters),
            content_hash=hashlib.blake2b(parameters, digest_size=16).hexdigest(),
            inline=kept,
            overrides=None if overrides in (b"", b"null") else overrides,
            unknown=unknown,
            fingerprint=None if replay_of is None else _fingerprint(request, overrides, parameters, replay_of),
            **_checked(request),
        )


# ── what the fields may hold ─────────────────────────────────────────────────────────────────────────────────────────


def _checked(request: v1.CreateRequest) -> dict[str, Any]:
    """The plain fields; every problem at once."""
    problems: list[str] = []
    tag = request.tag or None
    if tag is not None:
        problems += tag_problems(tag)
    api_version = request.requestApiVersion or ""
    if len(api_version) > MAX_API_VERSION:
        problems.append(f"`requestApiVersion` has more than {MAX_API_VERSION} characters")
    if _CONTROL.search(api_version):
        problems.append("`requestApiVersion` has control characters")
    parent = None
    if request.parentRequest is not None:
        parent = ParentRef(algorithm=request.parentRequest.algorithmName, run_id=request.parentRequest.requestId)
        problems += _parent_problems(parent)
    valid_for = None
    if request.payloadValidFor:
        valid_for = _validity(request.payloadValidFor, problems)
    if problems:
        raise InvalidEnvelope("Algorithm payload is invalid: " + "; ".join(problems))
    return {"api_version": api_version, "tag": tag, "parent": parent, "payload_valid_for": valid_for}


def tag_problems(tag: str) -> list[str]:
    """What is wrong with a tag, as sentences."""
    problems = []
    if len(tag) > MAX_TAG:
        problems.append(f"the tag has {len(tag)} characters; at most {MAX_TAG} are kept")
    if not tag.isprintable() and _CONTROL.search(tag):
        problems.append("the tag has control characters")
    return problems


def _parent_problems(parent: ParentRef) -> list[str]:
    problems = []
    if not parent.algorithm or len(parent.algorithm) > MAX_NAME:
        problems.append("`parentRequest.algorithmName` is no name of an algorithm")
    if not is_id(parent.run_id):
        problems.append(f"`parentRequest.requestId` is no id of a run: `{parent.run_id[:64]}`")
    return problems


def _validity(text: str, problems: list[str]) -> timedelta | None:
    try:
        valid_for = parse_duration(text)
    except ValueError as error:
        problems.append(f"`payloadValidFor`: {error}")
        return None
    if not SHORTEST_VALIDITY <= valid_for <= LONGEST_VALIDITY:
        problems.append(f"`payloadValidFor` is `{text}`; it may be from `1s` to `{LONGEST_VALIDITY.days * 24}h`")
        return None
    return valid_for


# ── what a decoder does not see: doubled keys, unknown names, bytes that are no UTF-8 ────────────────────────────────


def _look_around(
    body: bytes | memoryview, request: v1.CreateRequest, parameters: memoryview, kept: bytes | None
) -> tuple[tuple[str, ...], int]:
    """Names of unknown fields, and the parameters' offset (any, when they are *kept*). Raises InvalidEnvelope for a doubled key.

    Nearly every small request is proven by counting: each key has a colon behind it, so when there are as many colons
    outside the parameters as fields that were understood, there is no other key and none twice.
    """
    if kept is not None and isinstance(body, bytes) and not bytes(request.customConfiguration):
        understood = 1 + (request.tag is not None) + (request.requestApiVersion is not None) + (request.payloadValidFor is not None)
        understood += 3 if request.parentRequest is not None else 0
        if body.count(b":") - kept.count(b":") == understood:
            return (), 0
    offset = address(parameters) - address(body)
    outside = bytes(body[:offset]) + b"0" + bytes(body[offset + len(parameters) :])
    try:
        members = json.loads(outside, object_pairs_hook=_unique, parse_int=str)  # of any length, and nobody counts with it
    except RecursionError as error:
        raise InvalidEnvelope("Algorithm payload is invalid: `customConfiguration` is nested too deep") from error
    inner = members.get("parentRequest") or {}
    return (
        *(name for name in members if name not in _KNOWN),
        *(f"parentRequest.{name}" for name in inner if name not in _PARENT),
    ), offset


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        doubled = sorted({name for name, _ in pairs if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
        raise InvalidEnvelope(f"Algorithm payload is invalid: {_list(doubled)} is given twice", hint="keep one of them")
    return members


def _check_utf8(body: bytes | memoryview) -> None:
    """Raises InvalidEnvelope unless the body is UTF-8; looks at it in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0
    try:
        for start in range(0, len(body), _PIECE):
            decoder.decode(body[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidEnvelope(f"Algorithm payload is invalid: not UTF-8 near byte {start + error.start}") from error


class _Buffer(ctypes.Structure):
    """``Py_buffer`` of the C API (stable ABI since 3.11)."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address(buffer: bytes | memoryview) -> int:
    """Where a buffer begins in memory: the difference of two is the offset of a slice, without looking at its bytes."""
    view = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(view), 0)
    start = view.buf or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
    return start


def _fingerprint(request: v1.CreateRequest, overrides: bytes, parameters: memoryview, replay_of: bytes) -> bytes:
    """A digest of everything a replay must repeat, each part with its length before it."""
    parent = request.parentRequest
    parts: tuple[bytes | memoryview, ...] = (
        replay_of,
        (request.requestApiVersion or "").encode(),
        (request.tag or "").encode(),
        parent.algorithmName.encode() if parent else b"",
        parent.requestId.encode() if parent else b"",
        (request.payloadValidFor or "").encode(),
        overrides,
        parameters,
    )
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _why(body: bytes | memoryview, error: msgspec.DecodeError) -> str:
    """The decoder's words, but where they mislead: it says "truncated" of half a surrogate pair."""
    if not len(body):
        return "the body is empty"
    if not isinstance(error, msgspec.ValidationError):
        half = _LONE_SURROGATE.search(body) if "truncated" in str(error) or "surrogate" in str(error) else None
        if half is not None:
            return f"half of a surrogate pair near byte {half.start()} is no character"
    return str(error)


def _hint(body: bytes | memoryview, error: msgspec.DecodeError) -> str:
    if not len(body):
        return 'send a JSON object: `{"algorithmParameters": {…}}`'
    if body[0] != 0x7B:
        return "the body is one JSON object"
    return _fields_hint() if isinstance(error, msgspec.ValidationError) else "send JSON (RFC 8259) in UTF-8"


def _fields_hint() -> str:
    return f"fields: `{'`, `'.join(sorted(_KNOWN))}`"


def _list(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{name[:64]}`" for name in names[:10])


def _kind(first: int) -> str:
    kinds = {0x5B: "an array", 0x22: "text", 0x6E: "null", 0x74: "true", 0x66: "false"}
    return kinds.get(first, "a number")
