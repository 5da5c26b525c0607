"""The description of the API, the pages, health and metrics."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nexus.api import docspage, openapi
from nexus.api.table import ROWS
from nexus.wire import v1
from tests.unit.api.service import House

ROOT = Path(__file__).parents[3]

# the fields of wire-v1.md: struct → field → required
WIRE: dict[str, tuple[set[str], set[str]]] = {
    "CreateRequest": (
        {"algorithmParameters"},
        {"customConfiguration", "requestApiVersion", "tag", "parentRequest", "payloadValidFor"},
    ),
    "CreateResponse": ({"requestId"}, set()),
    "ParentRequest": ({"algorithmName", "requestId"}, set()),
    "CancelRequest": (set(), {"initiator", "reason", "cancellationPolicy"}),
    "Completion": (set(), {"resultUri", "errorCause", "errorDetails"}),
    "Processed": ({"is_processed"}, set()),
    "NewTag": ({"newTag"}, set()),
    "Result": ({"requestId", "status"}, {"resultUri", "runErrorMessage"}),
    "TaggedResult": ({"requestId", "status", "algorithmName"}, {"resultUri", "runErrorMessage"}),
    "Metadata": (
        {
            "algorithm", "id", "lifecycle_stage", "received_by_host", "received_at", "last_modified", "content_hash",
            "applied_configuration",
        },
        {
            "payload_uri", "result_uri", "algorithm_failure_cause", "algorithm_failure_details", "sent_at", "api_version", "tag",
            "job_uid", "parent", "configuration_overrides",
        },
    ),
    "Configuration": (
        set(),
        {
            "container", "computeResources", "workgroupRef", "command", "args", "payloadConfiguration", "runtimeEnvironment",
            "errorHandlingBehaviour", "datadogIntegrationSettings",
        },
    ),
    "Container": (set(), {"image", "registry", "versionTag", "serviceAccountName"}),
    "ComputeResources": (
        set(), {"cpuLimit", "memoryLimit", "limits", "requests", "defaultResourceQuota", "customResources"},
    ),
    "WorkgroupRef": (set(), {"name", "group", "kind"}),
    "PayloadConfiguration": (set(), {"payloadValidFor", "payloadSerializationMode"}),
    "RuntimeEnvironment": (
        set(),
        {
            "environmentVariables", "mappedEnvironmentVariables", "configurationFileMounts", "secretFileMounts", "storageMounts",
            "annotations", "deadlineSeconds", "maximumRetries",
        },
    ),
    "ErrorHandlingBehaviour": (set(), {"transientExitCodes", "fatalExitCodes"}),
    "DatadogIntegrationSettings": (set(), {"mountDatadogSocket"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document()


@pytest.mark.parametrize("name", sorted(WIRE))
def test_bodies_have_the_fields_of_the_wire(document: dict[str, Any], name: str) -> None:
    """Each body in the description has exactly the fields of the facts, and the required ones are required."""
    schema = document["components"]["schemas"][name]
    required, optional = WIRE[name]
    assert set(schema["properties"]) == required | optional
    assert set(schema.get("required", ())) == required


def test_parameters_are_an_object(document: dict[str, Any]) -> None:
    """The raw fields are described as what they may hold."""
    fields = document["components"]["schemas"]["CreateRequest"]["properties"]
    assert fields["algorithmParameters"]["type"] == "object"
    assert fields["customConfiguration"] == {"$ref": "#/components/schemas/Configuration"}


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """The description has every form of every route, with its success and its errors, and nothing else."""
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, path.replace("*}", "}")) for route in ROWS for path, _ in route.paths()}
    for route in ROWS:
        for path, api in route.paths():
            responses = document["paths"][path.replace("*}", "}")][route.method.lower()]["responses"]
            assert {str(route.status), *map(str, route.statuses)} <= set(responses)
            if api == "v1" and "404" in responses:
                assert list(responses["404"]["content"]) == ["text/html"]


def test_operations_are_named_once_and_parts_are_declared(document: dict[str, Any]) -> None:
    """Ids are unique, each variable part of a path is a required parameter, and every reference leads somewhere."""
    ids = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            ids.append(operation["operationId"])
            parts = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert parts == set(re.findall(r"{(\w+)}", path))
    assert len(ids) == len(set(ids))
    names = set(document["components"]["schemas"])
    assert set(re.findall(r'"#/components/schemas/(\w+)"', openapi.text().decode())) <= names


def test_the_export_is_openapi_3_0() -> None:
    """The export for older tools has nothing of 3.1: no null types, no constants, no lists of types."""
    text = openapi.text_3_0().decode()
    found = msgspec.json.decode(text)
    assert found["openapi"] == "3.0.3"
    assert '"null"' not in text
    assert '"const"' not in text
    assert not re.search(r'"type": \[', text)
    tag = found["components"]["schemas"]["CreateRequest"]["properties"]["tag"]
    assert (tag["type"], tag["nullable"]) == ("string", True)


@pytest.mark.parametrize(("name", "text"), [("openapi.json", openapi.text), ("openapi-3.0.json", openapi.text_3_0)])
def test_the_committed_files_are_fresh(name: str, text: Any) -> None:
    """The files under docs/reference are what the service serves; `tools/docs.py` writes them."""
    assert (ROOT / "docs" / "reference" / name).read_bytes() == text() + b"\n"


def test_what_is_served_decodes_as_described(document: dict[str, Any]) -> None:
    """The structs the doors encode are those the description is made of."""
    for kind in (v1.Result, v1.TaggedResult, v1.Metadata, v1.CreateResponse, v1.Processed):
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert fields == set(document["components"]["schemas"][kind.__name__]["properties"])


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Page(HTMLParser):
    """Collects ids, links and what a page would load, and checks that tags close."""

    VOID = frozenset({"meta", "br", "hr", "link", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        if tag in ("script", "img", "link", "iframe") or "src" in given:
            self.loads.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_every_route_and_loads_nothing() -> None:
    """The page names every route, its links lead somewhere, and it needs neither script nor net."""
    text = docspage.page().decode()
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert "http://" not in text.replace("http://127.0.0.1:8080", "")
    assert {route.name for route in ROWS} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    for route in ROWS:
        assert route.paths()[0][0].replace("*}", "}") in text


async def test_pages_are_served_safely(house: House) -> None:
    """Pages are HTML that may run nothing; the landing page leads to the others, which all answer."""
    for path in ("/", "/docs"):
        reply = await house.call("GET", path)
        assert (reply.status, reply.kind) == (200, "text/html")
        assert "default-src 'none'" in reply.headers["content-security-policy"]
    for link in Page((await house.call("GET", "/")).text).links:
        assert (await house.call("GET", link)).status == 200, link


async def test_the_description_is_served(house: House) -> None:
    """/openapi.json is the description."""
    reply = await house.call("GET", "/openapi.json")
    assert (reply.status, reply.kind, reply.body) == (200, "application/json", openapi.text())


# ── health and metrics ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_readiness_says_why_not(house: House) -> None:
    """Live is always 200; ready is 503 with the reason while the service is not."""
    assert (await house.call("GET", "/health/ready")).json() == {"status": "ready"}
    house.not_ready = "the store is being upgraded"
    reply = await house.call("GET", "/health/ready")
    assert (reply.status, reply.json()["reason"]) == (503, "the store is being upgraded")
    assert (await house.call("GET", "/health/live")).status == 200


async def test_metrics_count_requests_and_runs(house: House) -> None:
    """The exposition has requests by route and status, their durations, runs by stage, and the queue."""
    await house.accept()
    await house.call("POST", "/algorithm/v1/run/nobody", b'{"algorithmParameters":{}}')
    house.backlog = 2
    reply = await house.call("GET", "/metrics")
    assert (reply.status, reply.kind) == (200, "text/plain")
    for line in (
        'nexus_http_requests_total{route="create",status="202"} 1.0',
        'nexus_http_requests_total{route="create",status="400"} 1.0',
        'nexus_http_request_duration_seconds_bucket{le="+Inf",route="create"} 2.0',
        'nexus_runs{stage="BUFFERED"} 1.0',
        "nexus_runs_waiting 2.0",
        "nexus_draining 0.0",
    ):
        assert line in reply.text


def test_no_answer_is_described_with_a_null() -> None:
    """Answers leave out what has no value, and their description says so; requests may say null."""
    schemas = openapi.document()["components"]["schemas"]
    nullable = {name for name, schema in schemas.items() if '"null"' in json.dumps(schema)}
    assert nullable == {"CreateRequest", "CancelRequest", "Completion"}
