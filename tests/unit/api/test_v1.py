"""API v1 as existing clients meet it: each answer's status and content type, and what is kept."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import msgspec
import pytest

from nexus.api.services import DoorSettings
from nexus.kernel.errors import NoSpace
from nexus.runs.model import Stage
from nexus.wire import v1
from tests.unit.api.service import House

RUN = "/algorithm/v1/run/hello-world"
UNKNOWN = "00000000-0000-7000-8000-000000000000"
BODY = b'{"algorithmParameters":{"a":1}}'


def at(route: str, run_id: str, algorithm: str = "hello-world") -> str:
    return f"/algorithm/v1/{route}/{algorithm}/requests/{run_id}"


# ── accepting ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_accepted_and_readable_at_once(house: House) -> None:
    """202 with an id that is the only, string-valued field; the run can be read with it."""
    reply = await house.call("POST", RUN + "?dryRun=false", {"algorithmParameters": {"a": 1}, "tag": "t"})
    assert (reply.status, reply.kind) == (202, "application/json")
    assert set(reply.json()) == {"requestId"}
    run_id = reply.json()["requestId"]
    assert (await house.call("GET", at("results", run_id))).json() == {"requestId": run_id, "status": "BUFFERED"}
    assert [run.id for run in house.offered] == [run_id]


@pytest.mark.parametrize("raw", [b'{"n":123456789012345678901234567890, "z":1, "a":1.0}', b'{ "\xc3\xbc" : "\\u00e4" }'])
async def test_parameters_reach_the_algorithm_byte_for_byte(house: House, raw: bytes) -> None:
    """What the payload's address gives is what was sent: digits, order, spacing."""
    reply = await house.call("POST", RUN, b'{"tag":"t","algorithmParameters":' + raw + b"}")
    found = await house.call("GET", at("payload", reply.json()["requestId"]))
    assert found.status == 302
    location = found.headers["location"]
    assert location.startswith("http://127.0.0.1:8080/data/v1/payloads/hello-world/requests/")
    payload = await house.call("GET", location.removeprefix("http://127.0.0.1:8080"))
    assert (payload.status, payload.kind, payload.body) == (200, "application/json", raw)


async def test_an_unknown_length_is_accepted(house: House) -> None:
    """A small body in chunks travels in the row like any other."""
    reply = await house.call("POST", RUN, [BODY[:9], b"", BODY[9:]])
    assert reply.status == 202
    run = await house.reading.find(reply.json()["requestId"])
    assert run is not None
    assert run.payload.object_key is None


async def test_a_large_body_is_one_object(house: House) -> None:
    """Beyond the limit for rows the stored object is the body itself, and the row says where the parameters lie in it."""
    parameters = json.dumps({"text": "x" * 200_000, "ü": "ö"}, ensure_ascii=False).encode()
    body = b'{"tag":"large", "algorithmParameters": ' + parameters + b', "requestApiVersion":"1.2"}'
    for sent in (body, [body[:70_000], body[70_000:]]):
        reply = await house.call("POST", RUN, sent)
        assert reply.status == 202, reply.text
        run = await house.reading.find(reply.json()["requestId"])
        assert run is not None
        assert run.payload.object_key == f"payloads/{run.id}"
        assert await house.objects.size(run.payload.object_key) == len(body)
        assert b"".join([piece async for piece in house.reading.payload(run)]) == parameters
        assert (run.tag, run.api_version) == ("large", "1.2")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"algorithmParameters":{"a":"' + b"x" * 70_000 + b'"},"tag":"a","tag":"b"}', 400),
        (b'{"algorithmParameters":["' + b"x" * 70_000 + b'"]}', 400),
        (b'{"algorithmParameters":{"a":"' + b"\xff" * 70_000 + b'"}}', 400),
        (b'{"algorithmParameters":{"a":"' + b"x" * 70_000 + b'"},"parentRequest":{"algorithmName":"p","requestId":"%b"}}'
         % UNKNOWN.encode(), 400),
        (b'{"algorithmParameters":{"a":"' + b"x" * 300_000 + b'"}}', 413),
    ],
)  # fmt: skip
async def test_nothing_of_a_refused_large_body_is_kept(body: bytes, status: int) -> None:
    """A large body that is refused, at whatever point, leaves no object and no run."""
    house = await House(max_payload_bytes=200_000).furnish()
    for sent in (body, [body[:66_000], body[66_000:]]):
        reply = await house.call("POST", RUN, sent)
        assert (reply.status, reply.kind) == (status, "text/plain"), reply.text
    assert await objects_of(house) == []
    assert sum((await house.reading.counts()).values()) == 0


async def test_nothing_is_kept_when_the_client_goes_away(house: House) -> None:
    """A client that disconnects in the middle of its body leaves neither run nor object."""
    for body in (BODY[:10], b'{"algorithmParameters":{"a":"' + b"x" * 100_000):
        await house.call("POST", RUN, [body], cut=True)
    assert await objects_of(house) == []
    assert sum((await house.reading.counts()).values()) == 0


async def test_a_declared_length_beyond_the_limit_is_refused_unread(house: House) -> None:
    """413 comes before the body does."""
    house = await House(max_payload_bytes=1000).furnish()
    reply = await house.call("POST", RUN, b"", headers={"content-length": "1001"})
    assert (reply.status, reply.kind) == (413, "text/plain")


async def test_a_full_disk_is_507_and_keeps_nothing(house: House) -> None:
    """When the disk is full the answer is 507, and accepting works again when there is room."""
    house.store.room_bytes = 0
    reply = await house.call("POST", RUN, BODY)
    assert (reply.status, reply.kind) == (NoSpace.status, "text/plain")
    house.store.room_bytes = None
    assert (await house.call("POST", RUN, BODY)).status == 202


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (RUN, b"", "payload is invalid"),
        (RUN, b"nonsense", "payload is invalid"),
        (RUN, b'{"algorithmParameters":[]}', "not an object"),
        (RUN, b'{"algorithmParameters":{},"algorithmParameters":{}}', "given twice"),
        (RUN + "?dryRun=maybe", BODY, "dryRun"),
        (RUN + "?dryRun=True", BODY, "dryRun"),
        (RUN + "?dryRun=true&dryRun=false", BODY, "twice"),
        (RUN + "?dryRun=%ff", BODY, "query"),
        ("/algorithm/v1/run/nobody", BODY, "No valid configuration found for"),
        ("/algorithm/v1/run/%FF", BODY, "not UTF-8"),
        (RUN, {"algorithmParameters": {}, "parentRequest": {"algorithmName": "hello-world", "requestId": UNKNOWN}}, "parent"),
        (RUN, {"algorithmParameters": {}, "customConfiguration": {"computeResources": {"cpuLimit": "lots"}}}, "lots"),
        (RUN, {"algorithmParameters": {}, "customConfiguration": {"workgroupRef": {"name": "elsewhere"}}}, "workgroup"),
        (RUN, {"algorithmParameters": {}, "customConfiguration": []}, "customConfiguration"),
    ],
)
async def test_a_wrong_request_is_400_in_text(house: House, path: str, body: object, says: str) -> None:
    """Create's 400 is text/plain, the only error whose words the real client hands on; it says what is wrong."""
    reply = await house.call("POST", path, body)
    assert (reply.status, reply.kind) == (400, "text/plain"), reply.text
    assert says in reply.text


async def test_unknown_fields_are_ignored_and_logged_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """v1 takes a request with fields it does not know, and names them in the log the first time."""
    caplog.set_level("WARNING", "nexus.api")
    for _ in range(3):
        assert (await house.call("POST", RUN, {"algorithmParameters": {"secret": "s3cr3t"}, "colour": "red"})).status == 202
    assert [record.message for record in caplog.records] == ["request.unknown-fields"]
    assert caplog.records[0].__dict__["fields"] == {"names": ["colour"]}


async def test_a_full_queue_is_429(house: House) -> None:
    """Back-pressure is 429 with the time to come again."""
    house.backlog = 100
    reply = await house.call("POST", RUN, BODY)
    assert (reply.status, reply.kind, reply.headers["retry-after"]) == (429, "text/plain", "5")


async def test_a_stopping_service_accepts_nothing(house: House) -> None:
    """While draining, new runs are 503 with Retry-After and the service is not ready; reading goes on."""
    run_id = await house.accept()
    house.app.drain()
    reply = await house.call("POST", RUN, BODY)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert (await house.call("GET", "/health/ready")).status == 503
    assert (await house.call("GET", "/health/live")).status == 200
    assert (await house.call("GET", at("results", run_id))).status == 200


# ── idempotency ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("body", [BODY, b'{"algorithmParameters":{"a":"' + b"x" * 100_000 + b'"}}'])
async def test_a_replay_gets_the_same_run(house: House, body: bytes) -> None:
    """The same key and request give the same id, say so, and leave one run and at most one object."""
    key = {"Idempotency-Key": "k-1"}
    first = await house.call("POST", RUN, body, headers=key)
    again = await house.call("POST", RUN, body, headers=key)
    assert (first.status, again.status) == (202, 202)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert sum((await house.reading.counts()).values()) == 1
    assert len(await objects_of(house)) == (1 if len(body) > 65_536 else 0)


async def test_concurrent_twins_make_one_run(house: House) -> None:
    """Requests that race under one key all get the one run."""
    replies = await asyncio.gather(*(house.call("POST", RUN, BODY, headers={"Idempotency-Key": "k"}) for _ in range(10)))
    assert len({reply.json()["requestId"] for reply in replies}) == 1


@pytest.mark.parametrize(
    ("path", "body"), [(RUN, b'{"algorithmParameters":{"a":2}}'), (RUN + "?dryRun=true", BODY), (RUN, BODY[:-1] + b',"tag":"x"}')]
)
async def test_another_request_under_the_same_key_is_422(house: House, path: str, body: bytes) -> None:
    """A key stands for one request: anything else under it is refused."""
    await house.call("POST", RUN, BODY, headers={"Idempotency-Key": "k"})
    reply = await house.call("POST", path, body, headers={"Idempotency-Key": "k"})
    assert (reply.status, reply.kind) == (422, "text/plain")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ümlaut"])
async def test_a_key_has_a_form(house: House, key: str) -> None:
    """Keys are 1 to 255 visible ASCII characters."""
    reply = await house.call("POST", RUN, BODY, headers={"Idempotency-Key": key})
    assert (reply.status, reply.kind) == (400, "text/plain")


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

READS = ("results", "metadata", "buffer", "payload", "check")


@pytest.mark.parametrize("route", READS)
@pytest.mark.parametrize("run_id", [UNKNOWN, "nonsense", "<b>", "%2F", "..", "%F0%9F%92%A5"])
async def test_an_unknown_run_is_404_in_html(house: House, route: str, run_id: str) -> None:
    """404 as text/plain would end the real client's process: it is HTML, and what is shown of the request is escaped."""
    reply = await house.call("GET", at(route, run_id.replace("<", "%3C").replace(">", "%3E")))
    assert (reply.status, reply.kind) == (404, "text/html")
    assert b"<b>" not in reply.body


@pytest.mark.parametrize("route", READS)
async def test_a_run_of_another_algorithm_is_unknown(house: House, route: str) -> None:
    """An id under another algorithm's name is 404, not 500."""
    run_id = await house.accept()
    assert (await house.call("GET", at(route, run_id, "other"))).status == 404


async def test_metadata_has_no_null_and_all_sections(house: House) -> None:
    """Metadata decodes strictly: no null anywhere, every section of the configurations, addresses signed at read time."""
    run_id = await house.accept(tag="t", requestApiVersion="1.2", customConfiguration={"container": {"versionTag": "v2"}})
    reply = await house.call("GET", at("metadata", run_id))
    assert (reply.status, reply.kind) == (200, "application/json")
    assert b"null" not in reply.body
    found = reply.json()
    decoded = msgspec.json.decode(reply.body, type=v1.Metadata)
    assert decoded.lifecycle_stage == "BUFFERED"
    assert (found["algorithm"], found["id"], found["tag"], found["api_version"]) == ("hello-world", run_id, "t", "1.2")
    sections = {
        "container", "computeResources", "workgroupRef", "command", "payloadConfiguration", "runtimeEnvironment",
        "errorHandlingBehaviour", "datadogIntegrationSettings",
    }  # fmt: skip
    assert sections <= set(found["applied_configuration"])
    assert sections <= set(found["configuration_overrides"])
    assert found["applied_configuration"]["container"]["versionTag"] == "v2"
    assert found["configuration_overrides"]["container"] == {"versionTag": "v2"}
    assert found["received_at"] == "2026-11-21T12:00:00.000007Z"
    assert "sent_at" not in found
    assert "sig=" in found["payload_uri"]


async def test_metadata_without_overrides_leaves_them_out(house: House) -> None:
    """What was not given is left out."""
    found = (await house.call("GET", at("metadata", await house.accept()))).json()
    assert not {"configuration_overrides", "tag", "parent", "result_uri", "job_uid"} & set(found)


async def test_results_show_what_their_stage_has(house: House) -> None:
    """COMPLETED shows a result, every other end its cause, and what has not ended neither."""
    done, failed = await house.accept(), await house.accept()
    await house.call("POST", at("complete", done), {"resultUri": "s3://b/k", "errorCause": "", "errorDetails": ""})
    await house.call("POST", at("complete", failed), {"resultUri": "", "errorCause": "ValueError", "errorDetails": "trace"})
    assert (await house.call("GET", at("results", done))).json() == {
        "requestId": done,
        "status": "COMPLETED",
        "resultUri": "s3://b/k",
    }
    found = (await house.call("GET", at("results", failed))).json()
    assert found == {"requestId": failed, "status": "FAILED", "runErrorMessage": "ValueError"}


@pytest.mark.parametrize("tag", ["nightly", "a/b", "ü x", "100%", "requests"])
async def test_results_by_tag(house: House, tag: str) -> None:
    """Any tag is found by its percent-encoded form, a slash included; a tag nobody has gives an empty list, not null."""
    from urllib.parse import quote

    run_id = await house.accept(tag=tag)
    reply = await house.call("GET", f"/algorithm/v1/results/tags/{quote(tag, safe='')}")
    assert reply.json() == [{"algorithmName": "hello-world", "requestId": run_id, "status": "BUFFERED"}]
    assert (await house.call("GET", "/algorithm/v1/results/tags/none")).body == b"[]"


async def test_buffer_is_text_without_secrets(house: House) -> None:
    """The rendered submission is text/plain and holds no signed address."""
    reply = await house.call("GET", at("buffer", await house.accept()))
    assert (reply.status, reply.kind) == (200, "text/plain")
    assert "python" in reply.text
    assert "sig=" not in reply.text


async def test_waiting_for_an_end(house: House) -> None:
    """With `wait` the answer is held until the run has ended."""
    run_id = await house.accept()
    held = asyncio.create_task(house.call("GET", at("results", run_id) + "?wait=30"))
    await asyncio.sleep(0)
    await house.call("POST", at("complete", run_id), {"resultUri": "x"})
    assert (await held).json()["status"] == "COMPLETED"


async def test_waiting_ends_when_the_service_does(house: House) -> None:
    """A held answer is given at once when the service drains."""
    run_id = await house.accept()
    held = asyncio.create_task(house.call("GET", at("metadata", run_id) + "?wait=60"))
    await asyncio.sleep(0.01)
    house.app.drain()
    assert (await held).json()["lifecycle_stage"] == "BUFFERED"


async def test_waiting_ends_when_the_client_goes(house: House) -> None:
    """A client that went away is waited for no longer, and counted as gone."""
    run_id = await house.accept()
    await house.call("GET", at("results", run_id) + "?wait=60", cut=True)
    assert house.app.context.traffic.requests["result", 499] == 1


@pytest.mark.parametrize("wait", ["x", "-1", "1e3", "nan"])
async def test_a_wait_is_a_number(house: House, wait: str) -> None:
    """A wait that is no length of time is 400."""
    assert (await house.call("GET", at("results", await house.accept()) + f"?wait={wait}")).status == 400


# ── cancel, complete, check, retag ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan", None, ""])
async def test_cancel_answers_text(house: House, policy: str | None) -> None:
    """A cancel is 200 text/plain (JSON would be an error to the client), and stored."""
    run_id = await house.accept()
    reply = await house.call("POST", at("cancel", run_id), {"initiator": "me", "reason": "r", "cancellationPolicy": policy})
    assert (reply.status, reply.kind, reply.body) == (200, "text/plain", b"")
    assert (await house.call("GET", at("results", run_id))).json()["runErrorMessage"] == "Cancelled by 'me'"


@pytest.mark.parametrize(("query", "waited_s"), [("", 30.0), ("?wait=5", 5.0), ("?wait=0", 0.0), ("?wait=999", 60.0)])
async def test_a_foreground_cancel_says_what_is_left(house: House, query: str, waited_s: float) -> None:
    """When processes are left after the wait, which the caller may choose, the text says so and what happens next."""
    house.ender.gone = False
    run_id = await house.accept()
    reply = await house.call("POST", at("cancel", run_id) + query, {"cancellationPolicy": "Foreground"})
    assert (reply.status, reply.kind, house.ender.waited_s) == (200, "text/plain", waited_s)
    assert "cancelled" in reply.text
    assert "goes on ending them" in reply.text
    assert (await house.call("POST", at("cancel", run_id) + "?wait=soon", {})).status == 400


async def test_cancel_of_what_has_ended_changes_nothing(house: House) -> None:
    """A finished run stays as it is; the answer is 200."""
    run_id = await house.accept()
    await house.call("POST", at("complete", run_id), {"resultUri": "x"})
    assert (await house.call("POST", at("cancel", run_id), {})).status == 200
    assert (await house.call("GET", at("results", run_id))).json()["status"] == "COMPLETED"


@pytest.mark.parametrize(("body", "status"), [({"cancellationPolicy": "Now"}, 400), (b"[]", 400), (b"", 400), (b"x" * 70_000, 413)])
async def test_a_wrong_cancel(house: House, body: object, status: int) -> None:
    """What is no cancel request is refused in text."""
    reply = await house.call("POST", at("cancel", await house.accept()), body)
    assert (reply.status, reply.kind) == (status, "text/plain")


@pytest.mark.parametrize("route", ["cancel", "complete", "metadata/tags"])
async def test_posts_to_an_unknown_run_are_404(house: House, route: str) -> None:
    """Completing, cancelling or tagging a run nobody knows is 404, and the service lives."""
    reply = await house.call("POST", at(route, UNKNOWN), {"newTag": "x"})
    assert (reply.status, reply.kind) == (404, "text/html")


async def test_completion_is_stored_before_it_is_answered(house: House) -> None:
    """202 `{}`, after which check says true."""
    run_id = await house.accept()
    assert (await house.call("GET", at("check", run_id))).json() == {"is_processed": False}
    reply = await house.call("POST", at("complete", run_id), {"resultUri": "x", "errorCause": "", "errorDetails": ""})
    assert (reply.status, reply.kind, reply.body) == (202, "application/json", b"{}")
    assert (await house.call("GET", at("check", run_id))).json() == {"is_processed": True}


async def test_a_late_report_is_202_and_recorded(house: House) -> None:
    """v1 is told 202 whatever the run's stage; the report is kept beside the run and changes nothing."""
    run_id = await house.accept()
    await house.call("POST", at("cancel", run_id), {})
    reply = await house.call("POST", at("complete", run_id), {"resultUri": "late"})
    assert (reply.status, reply.body) == (202, b"{}")
    run = await house.reading.find(run_id)
    assert run is not None
    assert run.stage is Stage.CANCELLED
    assert [report.result_uri for report in await house.reading.late_reports(run)] == ["late"]


async def test_a_long_traceback_is_shortened_not_refused(house: House) -> None:
    """A report is never lost for its length: both ends of a long text are kept."""
    run_id = await house.accept()
    details = "first " + "x" * 1_000_000 + " last"
    reply = await house.call("POST", at("complete", run_id), {"errorCause": "E", "errorDetails": details})
    assert reply.status == 202
    kept = (await house.call("GET", at("metadata", run_id))).json()["algorithm_failure_details"]
    assert len(kept) < 70_000
    assert kept.startswith("first")
    assert kept.endswith("last")


async def test_a_run_takes_another_tag(house: House) -> None:
    """The tag can be changed after the fact, and is found at once."""
    run_id = await house.accept(tag="old")
    assert (await house.call("POST", at("metadata/tags", run_id), {"newTag": "new/1"})).status == 200
    assert len((await house.call("GET", "/algorithm/v1/results/tags/new%2F1")).json()) == 1
    assert (await house.call("GET", "/algorithm/v1/results/tags/old")).json() == []
    assert (await house.call("POST", at("metadata/tags", run_id), {"newTag": "x" * 300})).status == 400


async def objects_of(house: House) -> list[str]:
    """The keys of every stored object."""
    return list(house.objects._objects)


def test_limits_have_the_documented_defaults() -> None:
    """Rows take 64 KiB, bodies 500 MiB, waits 60 s."""
    limits = DoorSettings()
    assert (limits.inline_payload_bytes, limits.max_payload_bytes, limits.max_wait_s) == (65_536, 524_288_000, 60.0)
    assert limits.result_valid_for == timedelta(hours=24)


async def test_overrides_with_numbers_and_nulls_can_be_read_back(house: House) -> None:
    """Metadata never shows a null, or a number where existing clients want a quantity as text."""
    given = {"container": {"image": None}, "computeResources": {"limits": {"memory": 1073741824}}}
    reply = await house.call("POST", RUN, {"algorithmParameters": {}, "customConfiguration": given})
    shown = (await house.call("GET", at("metadata", reply.json()["requestId"]))).json()["configuration_overrides"]
    assert shown["computeResources"] == {"limits": {"memory": "1073741824"}}
    assert shown["container"] == {}
