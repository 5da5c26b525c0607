"""The ASGI application: from a request to a route, a caller, an answer. Made by the wiring, run by :mod:`nexus.api.server`.

Order of checks: path and method, host and origin, token, scope, content type; then the handler. Whatever happens, the caller
gets an answer in the form of the API it called, and never a look inside.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from time import perf_counter

from nexus.api import guard
from nexus.api.answers import Answer, RefusedFindings, Stream, refusal, unexpected
from nexus.api.request import ClientGone, Receive, Request, Scope, Send, header_map
from nexus.api.routes import Found, Route, Router
from nexus.api.services import Context, DoorSettings, Services
from nexus.api.table import ROWS
from nexus.kernel.access import ANONYMOUS, Principal
from nexus.kernel.errors import InvalidInput, NexusError, WrongMediaType

log = logging.getLogger("nexus.api")

_NOBODY = Principal(name=ANONYMOUS, scopes=frozenset())
_GONE = 499
_UNCHECKED_HOST = frozenset({"live", "ready"})  # asked by address, by whoever watches the process
_ROUTER = Router(ROWS)


class Doors:
    """The application. One may serve several ports at once; two over the same services are fine too."""

    def __init__(self, services: Services, settings: DoorSettings) -> None:
        self.context = Context(services, settings)

    def drain(self) -> None:
        """Begins the end: not ready, no new runs, and waiting readers are answered at once."""
        self.context.draining.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _other(scope["type"], receive, send)
            return
        began = perf_counter()
        name, status = "none", _GONE
        answer: Answer | Stream
        try:
            found = None
            try:
                found = _ROUTER.find(scope["method"], scope["raw_path"])
                name = found.route.name
                answer = await self._answer(found, scope, receive)
                first = await anext(answer.pieces, b"") if type(answer) is Stream else b""  # it may raise what can be answered
            except NexusError as error:
                answer = refusal(error, as_text=not _is_latest(scope, found))
            except RefusedFindings as refused:
                answer = refusal(refused.error, as_text=False, findings=refused.findings)
            status = answer.status
            if type(answer) is Answer:
                await _send(answer, send, scope["method"])
            else:
                await _stream(answer, first, receive, send)  # type: ignore[arg-type]
        except ClientGone:
            pass
        except Exception:  # the last net: a bug is answered, logged and counted, and the service goes on
            status = 500
            incident = secrets.token_hex(6)
            log.exception("request.failed", extra={"fields": {"incident": incident, "route": name}})
            await _send(unexpected(incident, as_text=not _is_latest(scope, None)), send, scope["method"])
        finally:
            self.context.traffic.count(name, status, perf_counter() - began)

    async def _answer(self, found: Found, scope: Scope, receive: Receive) -> Answer | Stream:
        route, context = found.route, self.context
        headers = header_map(scope["headers"])
        if route.name not in _UNCHECKED_HOST:
            context.gate.check_origin(headers, scope["method"], scope.get("server"))
        principal = _NOBODY
        if route.scope is not None:
            principal = await context.gate.identify(headers, scope.get("client"))
            guard.permit(route, principal, found.parts)
        if scope["method"] == "POST":
            _check_media_type(headers.get(b"content-type"))
        if b"content-encoding" in headers and scope["method"] in ("POST", "PUT"):
            _check_encoding(headers[b"content-encoding"])
        request = Request(scope, receive, headers, found.parts, found.api, principal)
        if request.strict and scope["query_string"]:
            _check_query(request.query(), route)
        return await route.handler(context, request)


def build_app(services: Services, settings: DoorSettings | None = None) -> Doors:
    """The application over these services."""
    return Doors(services, settings or DoorSettings())


def _check_media_type(given: bytes | None) -> None:
    """Raises WrongMediaType. A page of another origin cannot send JSON without asking first, which is refused."""
    if given == b"application/json":
        return
    if given is None or given.partition(b";")[0].strip().lower() != b"application/json":
        shown = "nothing" if given is None else given[:64].decode("latin-1")
        raise WrongMediaType(f"the content type is `{shown}`", hint="send `Content-Type: application/json`")


def _check_encoding(given: bytes) -> None:
    """Raises WrongMediaType: a body is kept as it comes, and nobody would know that it is compressed."""
    if given.strip().lower() not in (b"", b"identity"):
        shown = given[:64].decode("latin-1")
        raise WrongMediaType(f"the content encoding is `{shown}`", hint="send the body as it is, without `Content-Encoding`")


def _check_query(query: Mapping[str, str], route: Route) -> None:
    """Raises InvalidInput for a field the route does not know: a misspelt filter must not list everything."""
    known = [field.name for field in route.query]
    unknown = [name[:64] for name in query if name not in known]
    if unknown:
        hint = f"it knows `{'`, `'.join(known)}`" if known else "it takes none"
        raise InvalidInput(f"`{unknown[0]}` is no field of this query", hint=hint)


def _is_latest(scope: Scope, found: Found | None) -> bool:
    """Whether the caller speaks ``latest``: decided by the path alone where no route was found."""
    if found is not None:
        return found.api == "latest"
    path: bytes = scope["raw_path"]
    first = path[11:].partition(b"/")[0] if path.startswith(b"/algorithm/") else b"v1"
    return not (first[:1] == b"v" and first[1:].isdigit())


async def _send(answer: Answer, send: Send, method: str) -> None:
    body = answer.body
    headers = [(b"content-type", answer.content_type), (b"content-length", b"%d" % len(body)), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def _stream(answer: Stream, first: bytes, receive: Receive, send: Send) -> None:
    """Sends the pieces; stops when the client goes away. A failure on the way cuts the answer short, which the client sees."""
    headers = [(b"content-type", answer.content_type), (b"content-length", b"%d" % answer.size_bytes), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for piece in answer.pieces:
            if gone.done():
                raise ClientGone
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except NexusError as error:
        log.error("answer.cut-short", extra={"fields": {"code": error.code, "error": error.message}})
        raise ClientGone from error
    finally:
        gone.cancel()
        close = getattr(answer.pieces, "aclose", None)
        if close is not None:
            await close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _other(kind: str, receive: Receive, send: Send) -> None:
    """Lifespan is answered, web sockets are refused."""
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
