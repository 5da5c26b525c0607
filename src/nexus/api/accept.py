"""Accepting a run: the one route whose cost decides what the whole service can take.

A small body stays in memory and its parameters travel in the run's row. A larger one, or one of unknown length, is streamed to
an object, mapped, checked where it lies and made durable before the run is stored: the stored object is the body itself.
"""

from __future__ import annotations

import asyncio
import logging

from nexus.api import guard
from nexus.api.answers import JSON, Answer
from nexus.api.envelope import Envelope, read
from nexus.api.request import Request, check_length, flag, too_large
from nexus.api.routes import BOTH, Field, Route
from nexus.api.services import Context
from nexus.kernel.access import Principal, Scope
from nexus.kernel.errors import Draining, InvalidEnvelope, InvalidTemplate, MissingScope, NexusError
from nexus.runs.configuration import without_effect
from nexus.runs.model import Payload
from nexus.runs.ports import Spool
from nexus.runs.submission import PAYLOADS, Submit
from nexus.wire import v1

log = logging.getLogger("nexus.api")

MAX_KEY = 255
_DRY_RUN = {b"": False, b"dryRun=false": False, b"dryRun=true": True}
_REPLAYED = ((b"idempotency-replayed", b"true"),)
_KEY_FORM = bytes(range(0x21, 0x7F))


async def create(context: Context, request: Request) -> Answer:
    """Stores the run and its payload, then answers."""
    if context.draining.is_set():
        raise Draining("the service is being stopped", hint="send it again: to another instance, or in a moment")
    principal = request.principal
    if principal.run_id is not None:
        await guard.check_spawner(context, principal)  # before anything is taken in
    query = request.scope["query_string"]
    dry_run = _DRY_RUN.get(query)
    if dry_run is None:
        dry_run = flag(request.query(), "dryRun")
    key = request.headers.get(b"idempotency-key")
    idempotency_key = None if key is None else _key(key)
    replay_of = None if key is None else (b"dry" if dry_run else b"run")
    settings = context.settings
    length = request.content_length()
    check_length(length, settings.max_payload_bytes)
    if length is not None and length > settings.inline_payload_bytes:
        head, more = b"", True
    else:
        head, more = await request.take(settings.inline_payload_bytes)
    run_id = context.services.ids()
    if more:
        context.services.algorithms.find(request.parts[0])  # before half a gigabyte is taken in
        envelope = await _spool(context, request, head, f"{PAYLOADS}/{run_id}", replay_of)
        payload = Payload(size_bytes=envelope.size_bytes, offset=envelope.offset, object_key=f"{PAYLOADS}/{run_id}")
    else:
        envelope = read(head, strict=request.strict, inline=True, replay_of=replay_of)
        payload = Payload(size_bytes=envelope.size_bytes)
    try:
        if request.strict and envelope.overrides is not None:
            _refuse_without_effect(envelope.overrides)
        if envelope.unknown or principal.run_id is not None:
            _check_caller(context, principal, envelope)
    except NexusError:
        if payload.object_key is not None:
            await context.services.objects.delete(payload.object_key)
        raise
    accepted = await context.services.submission.submit(
        Submit(
            run_id=run_id,
            algorithm=request.parts[0],
            payload=payload,
            inline=envelope.inline,
            content_hash=envelope.content_hash,
            caller=principal.name,
            dry_run=dry_run,
            api_version=envelope.api_version,
            tag=envelope.tag,
            parent=envelope.parent,
            overrides=envelope.overrides,
            payload_valid_for=envelope.payload_valid_for,
            idempotency_key=idempotency_key,
            fingerprint=envelope.fingerprint,
        )
    )
    body = b'{"requestId":"' + accepted.run.id.encode() + b'"}'
    return Answer(202, body, JSON, _REPLAYED if accepted.replayed else ())


async def _spool(context: Context, request: Request, head: bytes, key: str, replay_of: bytes | None) -> Envelope:
    """Streams the body to the object *key* and reads its envelope there. Nothing is kept when anything is wrong."""
    limit = context.settings.max_payload_bytes
    size = len(head)
    async with context.services.objects.spool() as spool:
        if head:
            await spool.write(head)
        async for piece in request.rest():
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            await spool.write(piece)
        examined = await asyncio.to_thread(_examine, spool, request.strict, replay_of)
        if isinstance(examined, NexusError):
            raise examined
        await spool.commit(key)
        return examined


def _examine(spool: Spool, strict: bool, replay_of: bytes | None) -> Envelope | NexusError:
    """The envelope of a mapped body, or what is wrong. In a thread: a large body takes a while.

    The error comes back without its frames, which would hold on to the map.
    """
    view = spool.view()
    try:
        return read(view, strict=strict, inline=False, replay_of=replay_of)
    except NexusError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    finally:
        view.release()


def _key(raw: bytes) -> str:
    """The idempotency key. Raises InvalidEnvelope."""
    if not raw or len(raw) > MAX_KEY or raw.translate(None, _KEY_FORM):
        raise InvalidEnvelope("the `Idempotency-Key` is not usable", hint=f"1 to {MAX_KEY} visible ASCII characters")
    return raw.decode("ascii")


def _refuse_without_effect(overrides: bytes) -> None:
    """Raises InvalidTemplate for overrides that would change nothing: ``latest`` does not let a caller believe they did."""
    names = without_effect(overrides)
    if names:
        shown = "`, `".join(f"customConfiguration.{name}"[:80] for name in names[:10])
        raise InvalidTemplate(f"`{shown}` cannot be overridden by a request", hint="change the template, or leave it out")


def _check_caller(context: Context, principal: Principal, envelope: Envelope) -> None:
    """Notes unknown fields once; a run's own process may spawn children of its own run only. Raises MissingScope."""
    new = [name[:64] for name in envelope.unknown[:10] if name[:64] not in context.named_unknown]
    if new and len(context.named_unknown) < 100:
        context.named_unknown.update(new)
        log.warning("request.unknown-fields", extra={"fields": {"names": new}})
    if principal.run_id is not None and envelope.parent is not None and envelope.parent.run_id != principal.run_id:
        raise MissingScope("a run may name no parent but itself", hint="leave `parentRequest` out, or name the run of this token")


CREATE = Route(
    name="create",
    method="POST",
    path="/algorithm/{api}/run/{algorithm}",
    apis=BOTH,
    handler=create,
    doc="Accept a run. When the answer is 202, the run and its payload are on disk. An `Idempotency-Key` header makes repeats "
    "safe: the same request gives the same run, and the answer says so in `Idempotency-Replayed`. The token of a run's own process "
    "is good here until the run ends, and after its own report while its process lives, for at most ten minutes.",
    scope=Scope.SUBMIT,
    run="spawn",
    takes=v1.CreateRequest,
    gives=v1.CreateResponse,
    status=202,
    query=(Field("dryRun", "boolean", "Accept and complete the run without starting anything."),),
    statuses={
        400: "The request, its overrides or its parent are wrong, or the run of this token has ended; the text says what.",
        413: "The body is larger than the service takes.",
        422: "The idempotency key was used before with another request.",
        429: "As many runs wait as the service keeps.",
        503: "The service is being stopped.",
        507: "The disk is full; nothing was kept.",
    },
)
