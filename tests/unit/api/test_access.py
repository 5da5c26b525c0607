"""Who may do what, and from where."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from nexus.api.access import check_bind, host_name, is_loopback
from nexus.api.doors import build_app
from nexus.api.services import DoorSettings
from nexus.api.table import ROWS
from nexus.kernel.access import Scope
from nexus.kernel.errors import InvalidSetting
from nexus.runs import lifecycle
from nexus.runs.model import Exit, ExitKind, Stage
from nexus.runs.ports import Ended, Launch
from nexus.runs.urls import RUN_TOKEN_PREFIX
from tests.unit.api.service import REMOTE, House

RUN = "/algorithm/v1/run/hello-world"
BODY = b'{"algorithmParameters":{}}'
UNKNOWN = "00000000-0000-7000-8000-000000000000"

# what each route needs; `None`: nothing, `signed`: its own signature
NEEDS = {
    "create": "submit", "cancel": "submit", "retag": "submit",
    "result": "read", "tagged-results": "read", "metadata": "read", "buffer": "read", "payload": "read", "check": "read",
    "list-runs": "read", "show-run": "read", "tree": "read", "log": "read", "list-templates": "read", "show-template": "read",
    "list-workgroups": "read", "queue": "read", "registry": "read", "registry-item": "read", "metrics": "read",
    "complete": "operate", "apply": "operate", "list-tokens": "operate", "create-token": "operate", "revoke-token": "operate",
    "read-payload": "signed", "upload-result": "signed", "read-result": "signed",
    "landing": None, "live": None, "ready": None, "openapi": None, "docs": None,
}  # fmt: skip


def path_of(name: str, run_id: str) -> tuple[str, str]:
    route = next(route for route in ROWS if route.name == name)
    path = route.paths()[0][0].replace("{algorithm}", "hello-world").replace("{id}", run_id).replace("{tag}", "t")
    path = path.replace("{stream}", "stdout").replace("{view}", "packages").replace("{name*}", "x").replace("{name}", "hello-world")
    return route.method, path


def test_every_route_is_in_the_table_of_needs() -> None:
    """No route exists whose scope nobody decided."""
    assert {route.name: "signed" if route.signed else route.scope for route in ROWS} == NEEDS


@pytest.mark.parametrize("name", [name for name, need in NEEDS.items() if need not in (None, "signed")])
async def test_each_scope_opens_its_routes_and_no_others(house: House, name: str) -> None:
    """A token opens a route exactly when it has the scope; without, the answer is 403, and from afar without a token 401."""
    run_id = await house.accept()
    method, path = path_of(name, run_id)
    body = BODY if method == "POST" else b""
    tokens = {scope: await house.token(scope, name=scope) for scope in (Scope.SUBMIT, Scope.READ, Scope.OPERATE)}
    for scope, token in tokens.items():
        reply = await house.call(method, path, body, token=token, peer=REMOTE)
        assert (reply.status in (401, 403)) == (scope != NEEDS[name]), (scope, reply.status, reply.text)
    reply = await house.call(method, path, body, peer=REMOTE)
    assert (reply.status, reply.kind, reply.headers["www-authenticate"]) == (401, "text/plain", 'Bearer realm="nexus"')


@pytest.mark.parametrize("name", [name for name, need in NEEDS.items() if need == "signed"])
async def test_signed_routes_need_their_signature(house: House, name: str) -> None:
    """Without its signature a data route is 403 for everyone, the local operator included."""
    method, path = path_of(name, await house.accept())
    for query in ("", "?from=1&to=2", "?from=0&to=99999999999&sig=x", "?from=a&to=b&sig=ü"):
        assert (await house.call(method, path + query.replace("ü", "%C3%BC"))).status == 403


@pytest.mark.parametrize("authorization", [None, "Bearer ", "Bearer"])
@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("127.8.9.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)])
async def test_loopback_without_a_token_is_the_operator(house: House, authorization: str | None, peer: tuple[str, int]) -> None:
    """A caller on this machine needs no token; an empty one, which existing clients send, is none."""
    headers = {} if authorization is None else {"authorization": authorization}
    assert (await house.call("POST", RUN, BODY, headers=headers, peer=peer)).status == 202


@pytest.mark.parametrize("authorization", ["Bearer nx_unknown", "Bearer nonsense", "Basic YTpi", "nx_x", "Bearer " + "x" * 600])
@pytest.mark.parametrize("path", [RUN, "/algorithm/latest/run/hello-world"])
async def test_a_token_that_is_present_counts(house: House, authorization: str, path: str) -> None:
    """An unknown token is 401 text/plain, from loopback too, in every API."""
    reply = await house.call("POST", path, BODY, headers={"authorization": authorization})
    assert (reply.status, reply.kind) == (401, "text/plain")


@pytest.mark.parametrize("peer", [REMOTE, None])
async def test_afar_needs_a_token(house: House, peer: tuple[str, int] | None) -> None:
    """A caller that is not on this machine, or whose address is not known, needs a token."""
    assert (await house.call("POST", RUN, BODY, peer=peer)).status == 401


@pytest.mark.parametrize("settings", [{"require_token": True}, {"behind_proxy": True}])
async def test_loopback_can_be_closed(settings: dict[str, bool]) -> None:
    """With --require-token, and behind a proxy where everyone looks local, loopback needs a token as well."""
    house = await House(**settings).furnish()
    assert (await house.call("POST", RUN, BODY)).status == 401
    assert (await house.call("POST", RUN, BODY, token=await house.token(Scope.SUBMIT))).status == 202


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "x-real-ip"])
async def test_a_proxy_nobody_told_of_opens_nothing(house: House, header: str) -> None:
    """A request that came through a proxy on this machine is not from this machine."""
    assert (await house.call("POST", RUN, BODY, headers={header: "192.0.2.1"})).status == 401


async def test_tokens_expire_and_are_revoked(house: House) -> None:
    """An expired token is 401 at once, a revoked one within half a minute; a new one is known at once."""
    soon = await house.token(Scope.SUBMIT, name="soon", expires_at=house.clock.now() + timedelta(seconds=5))
    gone = await house.token(Scope.SUBMIT, name="gone")
    assert (await house.call("POST", RUN, BODY, token=soon)).status == 202
    house.clock.pass_(timedelta(seconds=5))
    assert (await house.call("POST", RUN, BODY, token=soon)).status == 401
    assert (await house.call("POST", RUN, BODY, token=gone)).status == 202
    await house.store.revoke_token("gone")
    house.clock.pass_(timedelta(seconds=31))
    assert (await house.call("POST", RUN, BODY, token=gone)).status == 401
    house.clock.pass_(timedelta(seconds=2))
    assert (await house.call("POST", RUN, BODY, token=await house.token(Scope.SUBMIT, name="new"))).status == 202


async def test_the_callers_name_is_recorded(house: House) -> None:
    """A run carries the name of the token it came with."""
    reply = await house.call("POST", RUN, BODY, token=await house.token(Scope.SUBMIT, name="team-a"), peer=REMOTE)
    run = await house.reading.find(reply.json()["requestId"])
    assert run is not None
    assert run.caller == "team-a"


# ── a run's own process ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_may_do_what_it_needs(house: House) -> None:
    """The token of a run reads its own payload, metadata and result, spawns children, reads its tree, and reports."""
    run_id = await house.accept()
    token = house.signer.run_token(run_id)
    parent = {"algorithmName": "hello-world", "requestId": run_id}
    child = await house.call("POST", RUN, {"algorithmParameters": {}, "parentRequest": parent}, token=token, peer=REMOTE)
    assert child.status == 202
    child_id = child.json()["requestId"]
    for route, of in (("metadata", run_id), ("payload", run_id), ("check", run_id), ("results", child_id), ("metadata", child_id)):
        reply = await house.call("GET", f"/algorithm/v1/{route}/hello-world/requests/{of}", token=token, peer=REMOTE)
        assert reply.status in (200, 302), (route, reply.text)
    for path in (f"runs/hello-world/{child_id}", f"runs/hello-world/{run_id}/tree", f"runs/hello-world/{child_id}/logs/stdout"):
        assert (await house.call("GET", f"/algorithm/latest/{path}", token=token, peer=REMOTE)).status == 200
    reply = await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {}, token=token, peer=REMOTE)
    assert reply.status == 202


async def test_a_run_may_do_nothing_else(house: House) -> None:
    """Another tree's runs, other runs' reports, cancel, and what operators do are 403 to the token of a run."""
    own, other = await house.accept(tag="t"), await house.accept(tag="t")
    token = house.signer.run_token(own)
    other_parent = {"algorithmName": "hello-world", "requestId": other}
    refused = [
        ("GET", f"/algorithm/v1/results/hello-world/requests/{other}", b""),
        ("GET", f"/algorithm/v1/metadata/hello-world/requests/{other}", b""),
        ("GET", f"/algorithm/v1/payload/hello-world/requests/{other}", b""),
        ("GET", f"/algorithm/v1/check/hello-world/requests/{other}", b""),
        ("POST", f"/algorithm/v1/complete/hello-world/requests/{other}", b"{}"),
        ("POST", f"/algorithm/v1/cancel/hello-world/requests/{other}", b"{}"),
        ("POST", f"/algorithm/v1/cancel/hello-world/requests/{own}", b"{}"),
        ("POST", f"/algorithm/v1/metadata/tags/hello-world/requests/{own}", b'{"newTag":"x"}'),
        ("POST", "/algorithm/latest/templates", b'{"manifests":[]}'),
        ("GET", "/algorithm/latest/templates", b""),
        ("GET", f"/algorithm/latest/runs?root={other}", b""),
        ("GET", "/metrics", b""),
        ("POST", RUN, json.dumps({"algorithmParameters": {}, "parentRequest": other_parent}).encode()),
    ]
    for method, path, body in refused:
        assert (await house.call(method, path, body, token=token, peer=REMOTE)).status == 403, path
    tagged = await house.call("GET", "/algorithm/v1/results/tags/t", token=token, peer=REMOTE)
    assert [row["requestId"] for row in tagged.json()] == [own]
    listed = await house.call("GET", "/algorithm/latest/runs", token=token, peer=REMOTE)
    assert [row["requestId"] for row in listed.json()["runs"]] == [own]


async def test_a_refused_child_with_a_large_payload_leaves_nothing(house: House) -> None:
    """A run that names another parent is refused, and its payload is not kept."""
    own, other = await house.accept(), await house.accept()
    parent = {"algorithmName": "hello-world", "requestId": other}
    body = {"algorithmParameters": {"a": "x" * 100_000}, "parentRequest": parent}
    assert (await house.call("POST", RUN, body, token=house.signer.run_token(own))).status == 403
    assert house.objects._objects == {}


async def end_process(house: House, run_id: str) -> None:
    end = Ended(run_id=run_id, attempt=1, exit=Exit(kind=ExitKind.EXITED, code=0, ended_at=house.clock.now()))
    await house.observed.end_attempt(end, lambda run: run)


async def spawn(house: House, run_id: str, *, hard: bool, size: int = 0) -> Any:
    parent = {"parentRequest": {"algorithmName": "hello-world", "requestId": run_id}} if hard else {}
    body = {"algorithmParameters": {"a": "x" * size}, **parent}
    return await house.call("POST", RUN, body, token=house.signer.run_token(run_id), peer=REMOTE)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("report", [{}, {"errorCause": "boom"}])
async def test_a_run_spawns_after_its_report_while_its_process_lives(house: House, report: dict[str, str], hard: bool) -> None:
    """Existing clients may report first and spawn then: that works for ten minutes, or until the process has ended."""
    lives, ends = await house.accept(), await house.accept()
    for run_id in (lives, ends):
        await house.start(run_id)
        assert (await spawn(house, run_id, hard=hard)).status == 202
        await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", report)
        house.clock.pass_(timedelta(minutes=9))
        assert (await spawn(house, run_id, hard=hard)).status == 202
        await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", report)  # a late one gives no more time
    house.clock.pass_(timedelta(minutes=2))
    refused = await spawn(house, lives, hard=hard)
    assert (refused.status, refused.kind) == (400, "text/plain")
    assert "NX215" in refused.text
    assert "10 min" in refused.text


async def test_a_clock_that_is_set_takes_no_time_to_spawn(house: House) -> None:
    """The ten minutes after a report are time that passes, whatever the wall clock says meanwhile."""
    run_id = await house.accept()
    await house.start(run_id)
    await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {})
    assert (await spawn(house, run_id, hard=False)).status == 202
    for jump in (timedelta(days=1), timedelta(days=-2)):
        house.clock.instant += jump
        assert (await spawn(house, run_id, hard=False)).status == 202
    house.clock.pass_(timedelta(minutes=11))
    assert (await spawn(house, run_id, hard=False)).status == 400


async def test_a_token_spawns_nothing_once_its_process_has_ended(house: House) -> None:
    """A token that got out of its run is worth nothing as soon as the process it was made for is gone."""
    run_id = await house.accept()
    await house.start(run_id)
    await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {})
    assert (await spawn(house, run_id, hard=False)).status == 202
    await end_process(house, run_id)
    assert (await spawn(house, run_id, hard=False)).status == 400
    assert (await house.call("POST", RUN, BODY)).status == 202  # others are not concerned


async def test_a_token_between_two_attempts_is_good(house: House) -> None:
    """The end of an attempt that is retried ends nothing: the next one has the same token."""
    run_id = await house.accept()
    await house.start(run_id)
    await end_process(house, run_id)
    assert (await spawn(house, run_id, hard=True)).status == 202


async def test_an_attempt_whose_start_is_not_stored_is_a_process_too(house: House) -> None:
    """A report may overtake the start of its attempt: the end of the attempt before does not speak for it."""
    run_id = await house.accept()
    await house.start(run_id)
    await end_process(house, run_id)
    await house.engine.create(Launch(run_id=run_id, algorithm="hello-world", attempt=2, argv=("x",), environment={}))
    await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {})
    assert (await spawn(house, run_id, hard=True)).status == 202
    house.engine.finish(run_id)
    assert (await spawn(house, run_id, hard=True)).status == 400


async def test_a_run_that_was_ended_spawns_nothing(house: House) -> None:
    """After a cancel, a deadline, or a failed launch there is no grace, and no large payload is taken in."""
    for stage in (Stage.CANCELLED, Stage.DEADLINE_EXCEEDED, Stage.SCHEDULING_FAILED):
        run_id = await house.accept()
        await house.start(run_id)
        await house.observed.change(run_id, partial(lifecycle.ended, to=stage, cause="c", details="", now=house.clock.now()))
        for hard in (True, False):
            refused = await spawn(house, run_id, hard=hard, size=100_000)
            assert (refused.status, stage.value in refused.text) == (400, True)
    assert house.objects._objects == {}


async def test_a_restart_gives_a_token_no_more_time(house: House) -> None:
    """When a run ended is in the store: another service over it refuses as the first did."""
    run_id = await house.accept()
    await house.start(run_id)
    await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {})
    house.clock.pass_(timedelta(minutes=11))
    house.app = build_app(house.services, DoorSettings())
    assert (await spawn(house, run_id, hard=False)).status == 400


@pytest.mark.parametrize("token", [RUN_TOKEN_PREFIX + UNKNOWN + "_x", RUN_TOKEN_PREFIX + "x", RUN_TOKEN_PREFIX])
async def test_a_forged_run_token_is_401(house: House, token: str) -> None:
    """A run's token that was not made here opens nothing."""
    assert (await house.call("POST", RUN, BODY, token=token)).status == 401


# ── where from ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("host", "ok"),
    [
        ("127.0.0.1:8080", True), ("localhost", True), ("LOCALHOST:1", True), ("[::1]:8080", True), ("nexus.localhost", True),
        ("127.0.0.1", True), ("localhost.", True), ("nexus.example.org", True), ("NEXUS.example.org:443", True),
        ("evil.example.org", False), ("127.0.0.1.evil.org", False), ("localhost:8080@evil.org", False), ("", False), (None, False),
        ("192.0.2.1", False), ("[::1", True), ("a b", False),
    ],
)  # fmt: skip
async def test_only_known_hosts_are_answered(host: str | None, ok: bool) -> None:
    """A page lured to another name of this address is kept out by the name it asks for."""
    house = await House(allowed_hosts=frozenset({"nexus.example.org"})).furnish()
    for _ in range(2):  # the second time from memory
        reply = await house.call("POST", RUN, BODY, headers={"host": host})  # type: ignore[dict-item]
        assert (reply.status == 202) is ok, reply.text
        assert ok or reply.status == (403 if host else 400)


async def test_health_is_answered_under_any_name(house: House) -> None:
    """Whoever watches the process asks by address."""
    for path in ("/health/live", "/health/ready"):
        assert (await house.call("GET", path, headers={"host": "10.0.0.7:8080"}, peer=REMOTE)).status == 200


@pytest.mark.parametrize(
    ("headers", "ok"),
    [
        ({"origin": "http://127.0.0.1:8080"}, True),
        ({"origin": "http://127.0.0.1:9090"}, False),
        ({"origin": "https://evil.example.org"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, False),
    ],
)
async def test_a_foreign_page_is_refused(house: House, headers: dict[str, str], ok: bool) -> None:
    """A browser's page of another origin cannot submit."""
    reply = await house.call("POST", RUN, BODY, headers=headers)
    assert reply.status == (202 if ok else 403)


async def test_a_link_from_elsewhere_works(house: House) -> None:
    """A person may follow a link to the service: reading changes nothing and the other page sees nothing."""
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert (await house.call("GET", "/docs", headers=link)).status == 200
    assert (await house.call("GET", "/docs", headers={"sec-fetch-site": "cross-site"})).status == 403


@pytest.mark.parametrize(
    ("kind", "ok"),
    [
        ("application/json", True), ("application/json; charset=utf-8", True), ("Application/JSON", True), ("text/plain", False),
        ("application/x-www-form-urlencoded", False), ("multipart/form-data", False), ("", False), (None, False),
    ],
)  # fmt: skip
async def test_a_post_is_json(house: House, kind: str | None, ok: bool) -> None:
    """A form of a foreign page cannot be a request: POST takes JSON only."""
    reply = await house.call("POST", RUN, BODY, headers={"content-type": kind})  # type: ignore[dict-item]
    assert reply.status == (202 if ok else 415)
    assert ok or reply.kind == "text/plain"


async def test_a_header_that_decides_is_given_once(house: House) -> None:
    """Two hosts, tokens or keys in one request are refused: it would matter which of them counts."""
    from tests.unit.api.service import drive

    for name, value in ((b"host", b"127.0.0.1"), (b"authorization", b"Bearer "), (b"idempotency-key", b"k")):
        scope = {
            "type": "http", "method": "POST", "raw_path": RUN.encode(), "query_string": b"", "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (name, value), (name, value)],
        }  # fmt: skip
        assert (await drive(house.app, scope, [BODY])).status == 400


def test_names_of_loopback() -> None:
    """What can only mean this machine, and what only looks like it."""
    assert all(is_loopback(name) for name in ("localhost", "x.localhost", "127.0.0.1", "127.255.0.1", "::1"))
    assert not any(is_loopback(name) for name in ("localhost.org", "0.0.0.0", "127.0.0.1.org", "", "10.0.0.1", "::"))
    assert host_name("[::1]:8080") == "::1"
    assert host_name("a:b") == ""


def test_a_bind_beyond_loopback_needs_a_token_and_tls() -> None:
    """The service refuses to be reachable from other machines unencrypted, or without any token."""
    check_bind("127.0.0.1", tls=False, behind_proxy=False, has_token=False)
    check_bind("::1", tls=False, behind_proxy=False, has_token=False)
    check_bind("0.0.0.0", tls=True, behind_proxy=False, has_token=True)
    check_bind("0.0.0.0", tls=False, behind_proxy=True, has_token=True)
    for tls, proxy, token in ((False, False, True), (True, False, False), (False, True, False)):
        with pytest.raises(InvalidSetting):
            check_bind("0.0.0.0", tls=tls, behind_proxy=proxy, has_token=token)
