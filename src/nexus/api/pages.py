"""Health, metrics, and the description of the service for people and programs."""

from __future__ import annotations

import asyncio

from nexus.api.answers import HTML, Answer, as_json
from nexus.api.request import Request
from nexus.api.routes import Route
from nexus.api.services import Context
from nexus.kernel.access import Scope

_PAGE_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)  # fmt: skip


async def live(context: Context, request: Request) -> Answer:
    return as_json({"status": "live"})


async def ready(context: Context, request: Request) -> Answer:
    why = "the service is being stopped" if context.draining.is_set() else context.services.ready()
    return as_json({"status": "ready"}) if why is None else as_json({"status": "not ready", "reason": why}, 503)


async def metrics(context: Context, request: Request) -> Answer:
    from nexus.api.metrics import exposition

    counts = await context.services.reading.counts()
    text = await asyncio.to_thread(
        exposition,
        context.traffic,
        context.services.collectors,
        runs={stage.value: count for stage, count in counts.items()},
        queue=context.services.queue(),
        draining=context.draining.is_set(),
    )
    return Answer(200, text, b"text/plain; version=0.0.4; charset=utf-8")


async def description(context: Context, request: Request) -> Answer:
    from nexus.api import openapi  # it describes the table these rows are part of

    return Answer(200, openapi.text(), b"application/json")


async def docs(context: Context, request: Request) -> Answer:
    from nexus.api import docspage

    return Answer(200, docspage.page(), HTML, _PAGE_HEADERS)


async def landing(context: Context, request: Request) -> Answer:
    from nexus.api import docspage

    return Answer(200, docspage.landing(), HTML, _PAGE_HEADERS)


ROWS = (
    Route(
        name="landing", method="GET", path="/", handler=landing, group="service", doc="Where to go from here.", gives="text/html",
    ),
    Route(
        name="live", method="GET", path="/health/live", handler=live, group="service", doc="Whether the process answers.",
        gives="application/json",
    ),
    Route(
        name="ready", method="GET", path="/health/ready", handler=ready, group="service",
        doc="Whether the service accepts runs; 503 with the reason when it does not.", gives="application/json",
        statuses={503: "Not ready, or being stopped."},
    ),
    Route(
        name="metrics", method="GET", path="/metrics", handler=metrics, group="service", doc="Metrics for Prometheus.",
        scope=Scope.READ, gives="text/plain",
    ),
    Route(
        name="openapi", method="GET", path="/openapi.json", handler=description, group="service",
        doc="This description (OpenAPI 3.1).", gives="application/json",
    ),
    Route(
        name="docs", method="GET", path="/docs", handler=docs, group="service", doc="This description as a page.",
        gives="text/html",
    ),
)  # fmt: skip
