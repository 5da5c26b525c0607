"""Payloads and results by signed addresses."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from nexus.runs import urls
from tests.unit.api.service import REMOTE, House

BASE = "http://127.0.0.1:8080"


def upload(house: House, run_id: str, valid_for: timedelta = timedelta(hours=1)) -> str:
    path = urls.upload_path("hello-world", run_id)
    return f"{path}?{house.signer.sign('PUT', path, valid_for)}"


async def payload(house: House, run_id: str) -> str:
    reply = await house.call("GET", f"/algorithm/v1/payload/hello-world/requests/{run_id}")
    return reply.headers["location"].removeprefix(BASE)


async def test_a_result_goes_up_and_comes_back(house: House) -> None:
    """An algorithm needs no credentials: it puts its result, reports the name it was told, and readers get an address."""
    run_id = await house.accept()
    data = b'{"answer": ' + b"4" * 100_000 + b"}"
    sent = await house.call("PUT", upload(house, run_id), data, headers={"content-type": "application/json"}, peer=REMOTE)
    assert (sent.status, sent.kind) == (201, "application/json")
    uri = sent.json()["resultUri"]
    assert uri.startswith(f"nexus:results/{run_id}/")
    await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {"resultUri": uri})
    shown = (await house.call("GET", f"/algorithm/v1/results/hello-world/requests/{run_id}")).json()["resultUri"]
    found = await house.call("GET", shown.removeprefix(BASE), peer=REMOTE)
    assert (found.status, found.kind, found.body) == (200, "application/json", data)
    assert found.headers["x-content-type-options"] == "nosniff"


async def test_an_uploaded_result_is_noted_with_the_run(house: House) -> None:
    """A result that was put but not reported is linked to its run."""
    run_id = await house.accept()
    await house.call("PUT", upload(house, run_id), [b"a", b"b"], headers={"content-type": "text/plain"})
    run = await house.reading.find(run_id)
    assert run is not None
    assert run.result_uri is not None
    key = run.result_uri.removeprefix("nexus:")
    assert house.objects._objects[key] == b"ab"


async def test_a_run_stores_a_bounded_number_of_results() -> None:
    """The one too many is refused before it is taken in, with what to do; what its process left there itself does not count."""
    house = await House(max_uploads=3).furnish()
    run_id, other = await house.accept(), await house.accept()
    for name in ("own-1.txt", "own-2.txt", "own-3.txt"):
        house.objects.keep(f"results/{run_id}/{name}", b"own")
    for _ in range(3):
        assert (await house.call("PUT", upload(house, run_id), b"x")).status == 201
    before = dict(house.objects._objects)
    refused = await house.call("PUT", upload(house, run_id), b"x" * 100_000, headers={"content-type": "text/plain"})
    assert (refused.status, "NX216" in refused.text, "at most 3" in refused.text) == (409, True, True)
    assert house.objects._objects == before
    assert (await house.call("PUT", upload(house, other), b"x")).status == 201
    assert (await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {})).status == 202


async def test_results_sent_side_by_side_count_each() -> None:
    """However many are on their way at once, no more are kept than a run may store, and one that broke off is not counted."""
    house = await House(max_uploads=3).furnish()
    run_id = await house.accept()
    await house.call("PUT", upload(house, run_id), b"begun", cut=True)
    replies = await asyncio.gather(*(house.call("PUT", upload(house, run_id), [b"a", b"b"]) for _ in range(10)))
    assert {reply.status for reply in replies} <= {201, 409}
    assert len(house.objects._objects) <= 3
    while (await house.call("PUT", upload(house, run_id), b"x")).status == 201:
        assert len(house.objects._objects) <= 3
    assert len(house.objects._objects) == 3
    assert not house.app.context.uploading


@pytest.mark.parametrize(
    ("kind", "shown", "inline"),
    [
        ("application/json", "application/json", True),
        ("application/json; charset=utf-8", "application/json", True),
        ("text/plain", "text/plain", True),
        ("image/png", "image/png", True),
        ("text/csv", "text/csv", False),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet", False),
        ("text/html", "application/octet-stream", False),
        ("image/svg+xml", "application/octet-stream", False),
        ("application/xhtml+xml", "application/octet-stream", False),
        ("", "application/octet-stream", False),
    ],
)
async def test_a_result_is_never_a_page(house: House, kind: str, shown: str, inline: bool) -> None:
    """What a browser would run is handed out as an attachment of bytes; the common kinds keep their type."""
    run_id = await house.accept()
    uri = (await house.call("PUT", upload(house, run_id), b"<script>", headers={"content-type": kind})).json()["resultUri"]
    path = urls.result_path(uri.removeprefix("nexus:"))
    found = await house.call("GET", f"{path}?{house.signer.sign('GET', path, timedelta(hours=1))}")
    assert (found.status, found.kind) == (200, shown)
    assert ("content-disposition" not in found.headers) is inline
    assert found.headers["x-content-type-options"] == "nosniff"


async def test_signatures_hold(house: House) -> None:
    """An address is good for its method, path and time, and nothing else."""
    run_id, other = await house.accept(), await house.accept()
    good = await payload(house, run_id)
    assert (await house.call("GET", good)).status == 200
    assert (await house.call("HEAD", good)).status == 200
    for bad in (
        good.replace(run_id, other),
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good.replace("to=1", "to=2"),
        good + "&x=1&sig=",
    ):
        assert (await house.call("GET", bad)).status in (400, 403), bad
    as_upload = good.replace("/payloads/", "/results/")
    assert (await house.call("PUT", as_upload, b"x")).status == 403
    house.clock.pass_(timedelta(hours=25))
    expired = await house.call("GET", good)
    assert (expired.status, expired.kind) == (403, "text/plain")
    assert "expired" in expired.text


async def test_a_payload_address_lives_as_long_as_was_asked(house: House) -> None:
    """`payloadValidFor` counts from the time the address is made."""
    run_id = await house.accept(payloadValidFor="10m")
    house.clock.pass_(timedelta(hours=3))
    address = await payload(house, run_id)
    house.clock.pass_(timedelta(minutes=9))
    assert (await house.call("GET", address)).status == 200
    house.clock.pass_(timedelta(minutes=2))
    assert (await house.call("GET", address)).status == 403


async def test_a_token_does_not_matter_here(house: House) -> None:
    """The signature is the permission: whatever else a client sends for authorization is not looked at."""
    address = await payload(house, await house.accept())
    assert (await house.call("GET", address, headers={"authorization": "Basic YTpi"}, peer=REMOTE)).status == 200


@pytest.mark.parametrize("size", [8, 200_000])
@pytest.mark.parametrize(
    ("header", "status", "place"),
    [
        ("bytes=2-5", 206, (2, 6)), ("bytes=5-", 206, (5, None)), ("bytes=-3", 206, (-3, None)),
        ("bytes=0-99999999", 200, (0, None)),
        ("bytes=99999999-", 416, None), ("bytes=5-2", 200, (0, None)), ("bytes=0-1,3-4", 200, (0, None)),
        ("lines=1-2", 200, (0, None)),
        ("bytes=-0", 416, None), ("bytes=-", 200, (0, None)),
    ],
)  # fmt: skip
async def test_ranges(house: House, size: int, header: str, status: int, place: tuple[int, int | None] | None) -> None:
    """One range of a payload can be asked for, small or large; what lies outside is 416."""
    parameters = b'{"a":"' + b"0123456789" * (size // 10) + b'"}'
    reply = await house.call("POST", "/algorithm/v1/run/hello-world", b'{"algorithmParameters":' + parameters + b"}")
    found = await house.call("GET", await payload(house, reply.json()["requestId"]), headers={"range": header})
    assert found.status == status
    if place is not None:
        assert found.body == parameters[place[0] : place[1]]
    if status == 206:
        assert found.headers["content-range"].endswith(f"/{len(parameters)}")


async def test_a_range_on_condition_is_the_whole(house: House) -> None:
    """Nothing here has a validator, so `If-Range` never holds: a client that resumes begins again instead of mixing."""
    run_id = await house.accept()
    found = await house.call("GET", await payload(house, run_id), headers={"range": "bytes=0-0", "if-range": '"x"'})
    assert found.status == 200


async def test_a_head_has_no_body(house: House) -> None:
    """HEAD says size and kind without the bytes."""
    body = b'{"algorithmParameters":{"a":"' + b"x" * 100_000 + b'"}}'
    run_id = (await house.call("POST", "/algorithm/v1/run/hello-world", body)).json()["requestId"]
    found = await house.call("HEAD", await payload(house, run_id))
    assert (found.status, found.body, found.headers["content-length"]) == (200, b"", str(len(body) - 24))


async def test_uploads_are_bounded_and_whole(house: House) -> None:
    """A result beyond the limit, or cut off, leaves nothing; one for a run that has ended is 409."""
    house = await House(max_result_bytes=1000).furnish()
    run_id = await house.accept()
    assert (await house.call("PUT", upload(house, run_id), b"x" * 1001)).status == 413
    assert (await house.call("PUT", upload(house, run_id), [b"x" * 600, b"x" * 600])).status == 413
    await house.call("PUT", upload(house, run_id), [b"x"], cut=True)
    assert house.objects._objects == {}
    await house.call("POST", f"/algorithm/v1/cancel/hello-world/requests/{run_id}", {})
    assert (await house.call("PUT", upload(house, run_id), b"x")).status == 409
    assert house.objects._objects == {}


async def test_a_result_of_ones_own_is_handed_back_as_it_is(house: House) -> None:
    """A result URI that is not ours is shown verbatim and never opened, whatever it points at."""
    for uri in ("s3://bucket/key?x=1", "file:///etc/passwd", "nexus:results/other/x", "nexus:../../etc/passwd", "/etc/passwd"):
        run_id = await house.accept()
        await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {"resultUri": uri})
        shown = (await house.call("GET", f"/algorithm/v1/results/hello-world/requests/{run_id}")).json()["resultUri"]
        assert shown == uri


async def test_a_result_in_the_runs_own_folder_is_signed(house: House) -> None:
    """A path inside the run's own result folder is shown as an address, sub-folders and odd names included."""
    run_id = await house.accept()
    house.objects.keep(f"results/{run_id}/requests/a b%.json", b"{}")
    uri = f"/data/objects/results/{run_id}/requests/a b%.json"
    await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {"resultUri": uri})
    shown = (await house.call("GET", f"/algorithm/v1/results/hello-world/requests/{run_id}")).json()["resultUri"]
    assert shown.startswith(f"{BASE}/data/v1/results/{run_id}/requests/a%20b%25.json?")
    assert (await house.call("GET", shown.removeprefix(BASE))).body == b"{}"
    house.objects._objects.clear()
    assert (await house.call("GET", shown.removeprefix(BASE))).status == 404


async def test_addresses_begin_where_the_caller_called(house: House) -> None:
    """Signed addresses name the host the caller used, or the public one that was set; behind a proxy its scheme."""
    run_id = await house.accept()
    path = f"/algorithm/v1/payload/hello-world/requests/{run_id}"
    reply = await house.call("GET", path, headers={"host": "localhost:9"})
    assert reply.headers["location"].startswith("http://localhost:9/data/")
    public = await House(public_url="https://nexus.example.org/").furnish()
    path = f"/algorithm/v1/payload/hello-world/requests/{await public.accept()}"
    assert (await public.call("GET", path)).headers["location"].startswith("https://nexus.example.org/data/")
    from nexus.kernel.access import Scope

    proxied = await House(behind_proxy=True).furnish()
    token = await proxied.token(Scope.SUBMIT, Scope.READ)
    reply = await proxied.call("POST", "/algorithm/v1/run/hello-world", b'{"algorithmParameters":{}}', token=token)
    path = f"/algorithm/v1/payload/hello-world/requests/{reply.json()['requestId']}"
    reply = await proxied.call("GET", path, token=token, headers={"x-forwarded-proto": "https"})
    assert reply.headers["location"].startswith("https://127.0.0.1:8080/data/")
