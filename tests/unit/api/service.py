"""The HTTP application over in-memory twins, and a caller that drives it without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nexus.api.doors import Doors, build_app
from nexus.api.services import DoorSettings, Services
from nexus.kernel.access import Scope, Token, make_token
from nexus.kernel.ids import IdMaker
from nexus.runs import lifecycle
from nexus.runs.algorithms import Algorithms
from nexus.runs.cancellation import Cancellation
from nexus.runs.completion import Completion
from nexus.runs.elapsed import Elapsed
from nexus.runs.model import Run
from nexus.runs.observing import ObservedStore
from nexus.runs.reading import Reading
from nexus.runs.submission import Submission
from nexus.runs.tagging import Tagging
from nexus.runs.templates import read_manifests
from nexus.runs.urls import Signer
from nexus.testing.engine import FakeEngine
from nexus.testing.memory import MemoryObjects, MemoryStore

LOCAL = ("127.0.0.1", 40000)
REMOTE = ("192.0.2.7", 40000)
TEMPLATE = """
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {name: hello-world, namespace: nexus}
spec:
  container: {image: hello-world, registry: registry.example.org/team, versionTag: v1.0.0, serviceAccountName: nexus}
  command: python
  args: [main.py, "--sas-uri=%s", "--request-id=%s"]
  computeResources: {cpuLimit: 500m, memoryLimit: 512Mi}
"""


class Hands:
    """A clock whose hands the test moves."""

    def __init__(self) -> None:
        self.instant = datetime(2026, 11, 21, 12, 0, 0, 7, tzinfo=UTC)
        self.elapsed = 1000.0

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        return self.elapsed

    def pass_(self, span: timedelta) -> None:
        self.instant += span
        self.elapsed += span.total_seconds()


class NoEnder:
    """Nothing runs here. ``gone`` is what a wait for processes gives, ``waited_s`` how long the last one might have been."""

    def __init__(self) -> None:
        self.gone = True
        self.waited_s: float | None = None

    async def end(self, run: Run) -> None:
        """There is nothing to end."""

    async def wait_ended(self, runs: list[Run], wait_s: float) -> bool:
        self.waited_s = wait_s
        return self.gone


class Reply:
    """An answer as it came."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.body = body

    @property
    def kind(self) -> str:
        """The media type without parameters."""
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class House:
    """A service without sockets. ``app`` is the ASGI callable."""

    def __init__(self, **settings: Any) -> None:
        registry = settings.pop("registry", {})
        self.clock = Hands()
        self.store = MemoryStore(self.clock)
        self.objects = MemoryObjects()
        self.engine = FakeEngine(self.clock)
        self.offered: list[Run] = []
        self.backlog = 0
        self.not_ready: str | None = None
        observed = ObservedStore(self.store)
        self.observed = observed
        self.algorithms = Algorithms(self.store, self.clock)
        self.reading = Reading(observed, self.objects, self.algorithms, self.engine, objects_root="/data/objects")
        observed.listeners.append(self.reading.observe)
        self.ender = NoEnder()
        self.signer = Signer(b"s" * 32, self.clock)
        self.submission = Submission(
            observed,
            self.objects,
            self.algorithms,
            self.clock,
            host="host-1",
            offer=self.offered.append,
            backlog=lambda: self.backlog,
            max_waiting=100,
        )
        self.services = Services(
            submission=self.submission,
            completion=Completion(observed, self.clock),
            cancellation=Cancellation(observed, self.clock, self.ender),
            reading=self.reading,
            tagging=Tagging(observed, self.clock),
            algorithms=self.algorithms,
            signer=self.signer,
            objects=self.objects,
            ids=IdMaker(),
            clock=self.clock,
            elapsed=Elapsed(self.clock),
            tokens=self.store,
            queue=lambda: {"waiting": self.backlog, "running": 0, "capacity": {"runs": 4}},
            registry=registry,
            ready=lambda: self.not_ready,
        )
        self.app: Doors = build_app(self.services, DoorSettings(**settings))

    async def furnish(self) -> House:
        """Registers `hello-world`."""
        manifests, findings = read_manifests(TEMPLATE, "hello.yaml")
        assert not [finding for finding in findings if finding.severity == "error"]
        await self.algorithms.apply(manifests, trusted=True)
        return self

    async def token(self, *scopes: Scope, name: str = "ann", expires_at: datetime | None = None) -> str:
        """The text of a new token."""
        text, digest = make_token()
        token = Token(name=name, digest=digest, scopes=frozenset(scopes), created_at=self.clock.now(), expires_at=expires_at)
        await self.store.add_token(token)
        return text

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] | Any = b"",
        *,
        headers: dict[str, str] | None = None,
        token: str | None = None,
        peer: tuple[str, int] | None = LOCAL,
        cut: bool = False,
    ) -> Reply:
        """One request. A list of bytes is sent in chunks without a length; anything but bytes is sent as JSON. *cut*: the
        client goes away after what it sent."""
        sent = {"host": "127.0.0.1:8080", **{name.lower(): value for name, value in (headers or {}).items()}}
        if method == "POST":
            sent.setdefault("content-type", "application/json")
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        chunked = isinstance(body, list) and all(isinstance(piece, bytes) for piece in body)
        data = body if isinstance(body, bytes) or chunked else json.dumps(body).encode()
        pieces = list(data) if chunked else [data]
        if not chunked and data:
            sent.setdefault("content-length", str(len(data)))
        raw, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "raw_path": raw.encode("ascii"),
            "query_string": query.encode("ascii"),
            "scheme": "http",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None],
            "client": peer,
            "server": ("127.0.0.1", 8080),
        }
        return await drive(self.app, scope, pieces, cut=cut)

    async def accept(self, parameters: Any = None, **envelope: Any) -> str:
        """The id of a run accepted from a local caller."""
        body = {"algorithmParameters": parameters or {}, **envelope}
        reply = await self.call("POST", "/algorithm/v1/run/hello-world", body)
        assert reply.status == 202, reply.text
        return reply.json()["requestId"]

    async def start(self, run_id: str) -> None:
        """Makes the run RUNNING."""
        await self.observed.change(run_id, lambda run: lifecycle.started(run, "uid", 1, self.clock.now()))


async def drive(app: Any, scope: dict[str, Any], pieces: Sequence[bytes], *, cut: bool = False) -> Reply:
    """Calls an ASGI application and holds it to the protocol: one start, a length that is true."""
    messages: AsyncIterator[dict[str, Any]] = _messages(pieces, cut)
    started: list[dict[str, Any]] = []
    body = bytearray()
    ended = False

    async def send(message: dict[str, Any]) -> None:
        nonlocal ended
        if message["type"] == "http.response.start":
            assert not started, "the answer was started twice"
            started.append(message)
            return
        assert started, "a body before its head"
        assert not ended, "more after the end"
        body.extend(message.get("body", b""))
        ended = not message.get("more_body", False)

    await asyncio.wait_for(app(scope, messages.__anext__, send), 60)
    if cut and not started:
        return Reply(0, [], b"")
    reply = Reply(started[0]["status"], started[0]["headers"], bytes(body))
    assert ended
    if scope["method"] != "HEAD":
        assert int(reply.headers["content-length"]) == len(body)
    return reply


async def _messages(pieces: Sequence[bytes], cut: bool) -> AsyncIterator[dict[str, Any]]:
    for index, piece in enumerate(pieces):
        yield {"type": "http.request", "body": piece, "more_body": cut or index + 1 < len(pieces)}
    if not cut:
        await asyncio.Event().wait()
    while True:
        yield {"type": "http.disconnect"}
