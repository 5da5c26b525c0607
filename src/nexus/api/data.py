"""Payloads and results by signed addresses: no token, no storage credentials. The signature says what, which and until when."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import msgspec

from nexus.api.answers import BYTES, JSON, Answer, Stream, as_json
from nexus.api.request import Request, check_length, too_large
from nexus.api.routes import Field, Route
from nexus.api.services import Context
from nexus.kernel.errors import BadSignature, NotFound, StageConflict, TooManyResults
from nexus.kernel.ids import is_id
from nexus.runs.model import Run
from nexus.runs.results import folder_key

# media type → suffix under which a result keeps it; what is not here is kept as bytes
SUFFIXES: dict[bytes, str] = {
    b"application/json": ".json",
    b"application/x-ndjson": ".ndjson",
    b"text/plain": ".txt",
    b"text/csv": ".csv",
    b"image/png": ".png",
    b"application/vnd.apache.parquet": ".parquet",
    b"application/vnd.apache.arrow.file": ".arrow",
    b"application/gzip": ".gz",
    b"application/zip": ".zip",
}
_MEDIA_TYPES = {suffix: media_type for media_type, suffix in SUFFIXES.items()}
_SHOWN_INLINE = frozenset({".json", ".txt", ".png"})
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")


class Uploaded(msgspec.Struct, frozen=True):
    """What the algorithm's report names as its result."""

    resultUri: str


async def read_payload(context: Context, request: Request) -> Answer | Stream:
    _verify(context, request, "GET")
    run = await context.services.reading.run(request.parts[0], request.parts[1])
    size, payload = run.payload.size_bytes, run.payload
    if payload.object_key is None:
        async for piece in context.services.reading.payload(run):
            return _whole(request, piece, JSON)
    key = payload.object_key or ""
    return await _ranged(context, request, key, payload.offset, size, JSON, ())


async def read_result(context: Context, request: Request) -> Answer | Stream:
    _verify(context, request, "GET")
    key = f"results/{request.parts[0]}/{request.parts[1]}"
    size = await context.services.reading.result_size(key)
    if size is None:
        raise NotFound("there is no such result", hint="it may have been removed; `nexus runs show` says what is known of the run")
    name = request.parts[1].rpartition("/")[2]
    suffix = "." + name.rpartition(".")[2]
    media_type = _MEDIA_TYPES.get(suffix, BYTES)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if suffix not in _SHOWN_INLINE:
        headers = ((b"content-disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}".encode()),)
    return await _ranged(context, request, key, 0, size, media_type, headers)


async def upload_result(context: Context, request: Request) -> Answer:
    """Streams the body to an object of the run, makes it durable, notes it with the run, then answers."""
    _verify(context, request, "PUT")
    services = context.services
    check_length(request.content_length(), context.settings.max_result_bytes)
    run = await services.reading.run(request.parts[0], request.parts[1])
    if run.stage.final:
        raise StageConflict(f"run `{run.algorithm}/{run.id}` is {run.stage} and takes no result any more")
    media_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    key = f"{folder_key(run.id)}/{services.ids()}{SUFFIXES.get(media_type, '.bin')}"
    async with _place(context, run):
        await _store(context, request, key)
    uri = await services.completion.uploaded(run.algorithm, run.id, key)
    return as_json(Uploaded(uri), 201)


@asynccontextmanager
async def _place(context: Context, run: Run) -> AsyncIterator[None]:
    """A place among the results the run may store; those on their way count. Raises TooManyResults."""
    under_way, most = context.uploading, context.settings.max_uploads
    under_way[run.id] += 1
    try:
        names = await context.services.objects.names(folder_key(run.id))
        stored = sum(is_id(name.partition(".")[0]) for name in names)  # what its process left there itself has other names
        if stored + under_way[run.id] > most:
            raise TooManyResults(
                f"run `{run.algorithm}/{run.id}` has stored as many results as it may: at most {most}",
                hint="put what belongs together into one result",
            )
        yield
    finally:
        under_way[run.id] -= 1
        if not under_way[run.id]:
            del under_way[run.id]


async def _store(context: Context, request: Request, key: str) -> None:
    """Streams the body to the object *key*; durable when this returns. Raises PayloadTooLarge, NoSpace."""
    limit = context.settings.max_result_bytes
    size = 0
    async with context.services.objects.spool() as spool:
        async for piece in request.rest():
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            if piece:
                await spool.write(piece)
        await spool.commit(key)


def _verify(context: Context, request: Request, method: str) -> None:
    """Raises BadSignature unless the address allows this."""
    query = request.query()
    if not (query.get("from", "").isdecimal() and query.get("to", "").isdecimal() and query.get("sig", "").isascii()):
        raise BadSignature("this address is not signed", hint="ask the service for a new URL")
    context.services.signer.verify(method, request.scope["raw_path"].decode("ascii"), query)


async def _ranged(
    context: Context,
    request: Request,
    key: str,
    offset: int,
    size: int,
    media_type: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
) -> Answer | Stream:
    """The object's bytes ``[offset, offset + size)``, or the range of them that was asked for."""
    headers = (*headers, (b"x-content-type-options", b"nosniff"), (b"accept-ranges", b"bytes"))
    wanted = _range(_asked(request), size)
    if wanted is None:
        return Answer(416, b"", headers=((b"content-range", b"bytes */%d" % size),))
    start, count = wanted
    status = 200
    if count != size:
        status = 206
        headers = (*headers, (b"content-range", b"bytes %d-%d/%d" % (start, start + count - 1, size)))
    pieces = (
        context.services.objects.read(key, offset=offset + start, size_bytes=count)
        if request.scope["method"] != "HEAD"
        else _none()
    )
    return Stream(pieces=pieces, size_bytes=count, content_type=media_type, status=status, headers=headers)


def _asked(request: Request) -> bytes | None:
    """The range that was asked for. One on condition (``If-Range``) never holds: nothing here has a validator."""
    return None if b"if-range" in request.headers else request.headers.get(b"range")


def _range(header: bytes | None, size: int) -> tuple[int, int] | None:
    """Start and length of what is wanted; None when it lies outside. Several ranges, other units, and one that ends before
    it begins mean the whole (RFC 9110, 14.1.1)."""
    match = _RANGE.fullmatch(header) if header is not None else None
    if match is None or match[1] == match[2] == b"":
        return 0, size
    if match[1] == b"":  # the last n bytes
        count = min(int(match[2]), size)
        return (size - count, count) if count else None
    first = int(match[1])
    if match[2] and int(match[2]) < first:
        return 0, size
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if first >= size:
        return None
    return first, last - first + 1


def _whole(request: Request, data: bytes, media_type: bytes) -> Answer:
    wanted = _range(_asked(request), len(data))
    if wanted is None:
        return Answer(416, b"", headers=((b"content-range", b"bytes */%d" % len(data)),))
    start, count = wanted
    headers: tuple[tuple[bytes, bytes], ...] = ((b"x-content-type-options", b"nosniff"), (b"accept-ranges", b"bytes"))
    if count == len(data):
        return Answer(200, data, media_type, headers)
    place = (b"content-range", b"bytes %d-%d/%d" % (start, start + count - 1, len(data)))
    return Answer(206, data[start : start + count], media_type, (*headers, place))


async def _none() -> AsyncIterator[bytes]:
    return
    yield b""


_SIGNATURE = (
    Field("from", "integer", "Not before, in seconds since 1970."),
    Field("to", "integer", "Expiry, in seconds since 1970."),
    Field("sig", "string", "The signature over method, path and both times."),
)
_REFUSED = {403: "The signature is wrong, not valid yet, or has expired.", 404: "There is no such thing."}
_RANGES = {206: "The range that was asked for.", 416: "The range lies outside."}

ROWS = (
    Route(
        name="read-payload", method="GET", path="/data/v1/payloads/{algorithm}/requests/{id}", handler=read_payload, group="data",
        doc="The parameters of a run, byte for byte as they were sent.", signed=True, gives="application/json", query=_SIGNATURE,
        statuses={**_REFUSED, **_RANGES},
    ),
    Route(
        name="upload-result", method="PUT", path="/data/v1/results/{algorithm}/requests/{id}", handler=upload_result, group="data",
        doc="Store a result. The answer names what the report gives as `resultUri`.", signed=True, takes="application/octet-stream",
        gives=Uploaded, status=201, query=_SIGNATURE,
        statuses={**_REFUSED, 409: "The run has ended, or has stored as many results as one run may (100).",
                  413: "Larger than the service takes.", 507: "The disk is full."},
    ),
    Route(
        name="read-result", method="GET", path="/data/v1/results/{id}/{name*}", handler=read_result, group="data",
        doc="A stored result.", signed=True, gives="application/octet-stream", query=_SIGNATURE, statuses={**_REFUSED, **_RANGES},
    ),
)  # fmt: skip
