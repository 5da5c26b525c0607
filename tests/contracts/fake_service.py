"""A small service with the routes the SDK speaks to, which fails in whatever way a test asks for."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TIME = "2026-11-21T13:30:00.000000Z"


class FakeService:
    """Runs are dicts by id. ``faults`` are statuses given, in turn, instead of answers; ``cut`` drops connections.

    A fault named ``after`` first does what was asked: the answer is lost, not the request.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.faults: deque[Any] = deque()
        self.children: dict[str, Any] = {}  # algorithm → result of runs of that name, at once
        self.results: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.reports: list[dict[str, str]] = []
        self.applied: list[Any] = []
        self.payload: bytes = b"{}"
        self.log: dict[int, bytes] = {}
        self.url = ""
        self._ids = itertools.count(1)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeService]:
        app = web.Application(middlewares=[self._faulty], client_max_size=1 << 26)
        api = "/algorithm/{version:v1|latest}"
        app.add_routes([
            web.post(api + "/run/{algorithm}", self._create),
            web.get(api + "/results/{algorithm}/requests/{id}", self._result),
            web.get(api + "/results/tags/{tag}", self._tagged),
            web.get(api + "/metadata/{algorithm}/requests/{id}", self._metadata),
            web.post(api + "/cancel/{algorithm}/requests/{id}", self._cancel),
            web.post(api + "/complete/{algorithm}/requests/{id}", self._complete),
            web.get(api + "/check/{algorithm}/requests/{id}", self._check),
            web.get(api + "/runs", self._runs),
            web.get(api + "/runs/{algorithm}/{id}", self._run),
            web.get(api + "/runs/{algorithm}/{id}/tree", self._runs),
            web.get(api + "/runs/{algorithm}/{id}/logs/{stream}", self._logs),
            web.post(api + "/templates", self._apply),
            web.get("/signed/result/{id}", self._signed),
            web.put("/signed/upload/{id}", self._upload),
            web.get("/signed/payload", self._payload),
        ])  # fmt: skip
        server = TestServer(app)
        await server.start_server()
        self.url = str(server.make_url("")).rstrip("/")
        try:
            yield self
        finally:
            await server.close()

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        self.headers.append(dict(request.headers))
        fault = self.faults.popleft() if self.faults else None
        if fault is None:
            answer: web.StreamResponse = await handler(request)
            return answer
        if fault == "cut-after":
            await handler(request)
        if fault in ("cut", "cut-after"):
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(fault, web.Response):
            return fault
        return web.Response(status=fault, text="not now")

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        envelope = json.loads(body)
        algorithm, key = request.match_info["algorithm"], request.headers.get("Idempotency-Key", "")
        known = self.keys.get((algorithm, key)) if key else None
        run_id = known or f"00000000-0000-7000-8000-{next(self._ids):012x}"
        if known is None:
            self.keys[(algorithm, key)] = run_id
            self.runs[run_id] = {"algorithm": algorithm, "stage": "BUFFERED", "envelope": envelope, "query": dict(request.query)}
            if algorithm in self.children:
                self.finish(run_id, json.dumps(self.children[algorithm]).encode())
        return web.json_response({"requestId": run_id}, status=202)

    def finish(self, run_id: str, result: bytes | None = None, *, stage: str = "COMPLETED", cause: str = "") -> None:
        run = self.runs[run_id]
        run["stage"] = stage
        run["cause"] = cause
        if result is not None:
            self.results[run_id] = result
            run["uri"] = f"{self.url}/signed/result/{run_id}?sig=secret"

    def _found(self, request: web.Request) -> dict[str, Any]:
        run = self.runs.get(request.match_info["id"])
        if run is None or run["algorithm"] != request.match_info["algorithm"]:
            body = {"error": {"code": "NX202", "message": "no such run", "hint": "look at the list"}}
            raise web.HTTPNotFound(text=json.dumps(body), content_type="application/json")
        return run

    async def _result(self, request: web.Request) -> web.Response:
        run = self._found(request)
        if steps := run.get("steps"):
            run["stage"] = steps.pop(0)
        body = {"requestId": request.match_info["id"], "status": run["stage"]}
        if run.get("uri"):
            body["resultUri"] = run["uri"]
        if run.get("cause"):
            body["runErrorMessage"] = run["cause"]
        return web.json_response(body)

    async def _tagged(self, request: web.Request) -> web.Response:
        tag = request.match_info["tag"]
        rows = [(run_id, run) for run_id, run in self.runs.items() if run["envelope"].get("tag") == tag]
        body = [{"requestId": run_id, "status": run["stage"], "algorithmName": run["algorithm"]} for run_id, run in rows]
        return web.json_response(body)

    async def _metadata(self, request: web.Request) -> web.Response:
        run = self._found(request)
        return web.json_response({
            "algorithm": run["algorithm"], "id": request.match_info["id"], "lifecycle_stage": run["stage"], "received_by_host": "x",
            "received_at": TIME, "last_modified": TIME, "content_hash": "x", "applied_configuration": {"command": "python"},
        })  # fmt: skip

    async def _cancel(self, request: web.Request) -> web.Response:
        self._found(request)
        self.bodies.append(await request.read())
        self.finish(request.match_info["id"], stage="CANCELLED", cause="Cancelled by 'me'")
        return web.Response(text="")

    def view(self, run_id: str) -> dict[str, Any]:
        run = self.runs[run_id]
        return {
            "requestId": run_id, "algorithm": run["algorithm"], "stage": run["stage"], "rootId": run_id, "receivedAt": TIME,
            "lastModified": TIME, "attempt": run.get("attempt", 1), "caller": "anonymous", "somethingNew": [1],
        }  # fmt: skip

    async def _run(self, request: web.Request) -> web.Response:
        self._found(request)
        return web.json_response(self.view(request.match_info["id"]))

    async def _runs(self, request: web.Request) -> web.Response:
        ids = sorted(self.runs, reverse=True)
        if before := request.query.get("before"):
            ids = [run_id for run_id in ids if run_id < before]
        limit = int(request.query.get("limit", 100))
        body: dict[str, Any] = {"runs": [self.view(run_id) for run_id in ids[:limit]]}
        if len(ids) > limit:
            body["next"] = ids[limit - 1]
        return web.json_response(body)

    async def _logs(self, request: web.Request) -> web.Response:
        run = self._found(request)
        newest = run.get("attempt", 1)
        attempt, offset = int(request.query.get("attempt", newest)), int(request.query.get("offset", 0))
        piece = self.log.get(attempt, b"")[offset : offset + 4]
        complete = attempt < newest or not (run["stage"] in ("BUFFERED", "RUNNING") or run.get("alive"))
        headers = {"x-log-offset": str(offset + len(piece)), "x-log-attempt": str(attempt), "x-log-complete": str(complete).lower()}
        return web.Response(body=piece, headers=headers)

    async def _apply(self, request: web.Request) -> web.Response:
        self.applied.append((dict(request.query), await request.json()))
        row = {"kind": "NexusAlgorithmTemplate", "name": "solve", "revision": 1, "change": "created"}
        return web.json_response(
            {"applied": [row], "warnings": [{"file": "b.yaml", "message": "careful", "code": "NX-T09", "severity": "warning"}]}
        )

    async def _signed(self, request: web.Request) -> web.Response:
        return web.Response(body=self.results[request.match_info["id"]])

    async def _upload(self, request: web.Request) -> web.Response:
        run_id = request.match_info["id"]
        self.uploads[run_id] = (request.headers.get("Content-Type", ""), await request.read())
        return web.json_response({"resultUri": f"{self.url}/signed/result/{run_id}"}, status=201)

    async def _payload(self, request: web.Request) -> web.Response:
        return web.Response(body=self.payload)

    async def _complete(self, request: web.Request) -> web.Response:
        self.reports.append(await request.json())
        return web.json_response({}, status=202)

    async def _check(self, request: web.Request) -> web.Response:
        return web.json_response({"is_processed": bool(self.reports)})
