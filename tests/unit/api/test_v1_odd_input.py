"""API v1 and latest against what no client should send: every answer is the caller's or in words, none a failure of the service."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.api.service import House
from tests.unit.api.test_v1 import BODY, RUN, UNKNOWN, at

PATHS = [
    RUN, at("cancel", UNKNOWN), at("complete", UNKNOWN), at("metadata/tags", UNKNOWN), "/algorithm/latest/templates",
    "/algorithm/run/hello-world",
]  # fmt: skip


@given(st.sampled_from(PATHS), st.binary(max_size=200), st.integers(0, 40))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_makes_the_service_fail(path: str, noise: bytes, cut: int) -> None:
    """Any bytes as a body, also in the middle of a good one, get an answer below 500."""
    house = await House().furnish()
    for body in (noise, BODY[:cut] + noise + BODY[cut:]):
        assert (await house.call("POST", path, body)).status < 500


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60), st.sampled_from(["GET", "POST", "PUT", "DELETE"])
)
@settings(max_examples=150)
async def test_no_path_makes_the_service_fail(tail: str, method: str) -> None:
    """Any path and query gets an answer below 500."""
    house = await House().furnish()
    for path in ("/" + tail, "/algorithm/" + tail, "/algorithm/latest/runs/" + tail, "/data/v1/results/" + tail):
        assert (await house.call(method, path)).status < 500


async def test_a_bug_is_answered_without_a_look_inside(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is 500 with an id that is also in the log; no trace reaches the caller."""
    house.services.__dict__["reading"] = None
    reply = await house.call("GET", at("results", UNKNOWN))
    assert (reply.status, reply.kind) == (500, "text/plain")
    incident = caplog.records[0].__dict__["fields"]["incident"]
    assert incident in reply.text
    assert "Traceback" not in reply.text
    assert "NoneType" not in reply.text


async def test_a_compressed_body_is_415(house: House) -> None:
    """A body is kept as it comes; one that says it is compressed is refused, for nobody would know later."""
    reply = await house.call("POST", RUN, BODY, headers={"content-encoding": "gzip"})
    assert reply.status == 415
    assert "gzip" in reply.text
    assert (await house.call("POST", RUN, BODY, headers={"content-encoding": "identity"})).status == 202


@pytest.mark.parametrize("route", ["cancel", "complete", "metadata/tags"])
async def test_an_empty_body_is_called_empty(house: House, route: str) -> None:
    """Nothing sent is told as that, on every route that takes a body."""
    reply = await house.call("POST", at(route, await house.accept()), b"")
    assert reply.status == 400
    assert "the body is empty" in reply.text


@pytest.mark.parametrize("api", ["v1", "latest"])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"x\xff": 1}', "cannot be read"),
        (b'{"reason": "a", "x": "\xff"}', "cannot be read"),
        (b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "too deep"),
    ],
)
async def test_what_no_field_knows_is_read_too(house: House, api: str, body: bytes, says: str) -> None:
    """Bytes that are no UTF-8, and nesting without end, are 400 wherever they stand in a body."""
    path = at("cancel", await house.accept()).replace("/v1/", f"/{api}/")
    reply = await house.call("POST", path, body)
    assert reply.status == 400, reply.text
    assert says in reply.text


async def test_latest_refuses_a_field_given_twice(house: House) -> None:
    """Of two values the caller cannot know which one counts. A long number beside them is no error of the service's."""
    path = at("cancel", await house.accept()).replace("/v1/", "/latest/")
    reply = await house.call("POST", path, b'{"reason": "a", "reason": "b"}')
    assert (reply.status, reply.json()["error"]["message"]) == (400, "`reason` is given twice")
    reply = await house.call("POST", path, b'{"x": ' + b"1" * 5000 + b"}")
    assert "`x` is no field of this" in reply.text


async def test_many_fields_given_twice_keep_nobody_waiting(house: House) -> None:
    """A report as large as one may be, of fields it has not, costs what its size costs: it is refused like a small one."""
    path = at("complete", await house.accept()).replace("/v1/", "/latest/")
    reply = await house.call("POST", path, b"{" + b",".join(b'"%x":1' % (number // 2) for number in range(350_000)) + b"}")
    assert reply.status == 400
    assert reply.json()["error"]["message"].endswith("is given twice")
