"""What `latest` has beyond v1, the unversioned form, and the JSON form of its errors."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nexus.api.routes import Route, Router
from nexus.api.table import ROWS
from nexus.kernel.errors import NotFound, UnknownRoute, WrongMethod
from nexus.runs import lifecycle
from nexus.runs.model import Exit, ExitKind
from nexus.runs.ports import Ended, Launch
from nexus.sdk.model import Applied, RunPage, Templates
from nexus.sdk.model import RunView as SdkRun
from nexus.sdk.model import Template as SdkTemplate
from tests.unit.api.service import TEMPLATE, House

UNKNOWN = "00000000-0000-7000-8000-000000000000"
BODY = b'{"algorithmParameters":{}}'


def decode(kind: Any, body: bytes) -> Any:
    import msgspec

    return msgspec.json.decode(body, type=kind)


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", ["/algorithm/latest", "/algorithm"])
async def test_the_unversioned_form_is_the_newest(house: House, prefix: str) -> None:
    """`/algorithm/<rest>` is answered by latest's handler, without a redirect."""
    run_id = await house.accept()
    assert (await house.call("POST", f"{prefix}/run/hello-world", BODY)).status == 202
    assert (await house.call("GET", f"{prefix}/results/hello-world/requests/{run_id}")).json()["status"] == "BUFFERED"
    assert (await house.call("GET", f"{prefix}/runs/hello-world/{run_id}")).json()["requestId"] == run_id
    refused = await house.call("POST", f"{prefix}/run/hello-world", b"[]")
    assert (refused.status, refused.kind) == (400, "application/json")


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/algorithm/v2/run/hello-world", 404, "text/html"),
        ("/algorithm/v0/results/tags/t", 404, "text/html"),
        ("/algorithm/v1/nothing", 404, "text/html"),
        ("/algorithm/v1/runs", 404, "text/html"),
        ("/algorithm/latest/nothing", 404, "application/json"),
        ("/algorithm/v", 404, "application/json"),
        ("/algorithm", 404, "text/html"),
        ("/nothing", 404, "text/html"),
        ("/algorithm/v1/run/", 404, "text/html"),
        ("/algorithm/v1/run/a/b", 404, "text/html"),
        ("/algorithm/v1/results//requests/x", 404, "text/html"),
    ],
)
async def test_what_is_not_there_is_404(house: House, path: str, status: int, kind: str) -> None:
    """Unknown versions and paths are 404 in the form of the API that was asked."""
    reply = await house.call("GET", path)
    assert (reply.status, reply.kind) == (status, kind)


async def test_another_method_is_405(house: House) -> None:
    """A known path with another method says which ones it takes."""
    reply = await house.call("DELETE", "/algorithm/v1/run/hello-world")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    reply = await house.call("POST", "/algorithm/latest/runs")
    assert (reply.status, reply.kind, reply.headers["allow"]) == (405, "application/json", "GET")


def test_names_may_look_like_parts_of_routes() -> None:
    """An algorithm called `tags`, or one with a slash, is found where it is meant."""
    router = Router(ROWS)
    cases = {
        ("GET", "/algorithm/v1/results/tags/requests"): ("tagged-results", ("requests",)),
        ("GET", "/algorithm/v1/results/tags/requests/x"): ("result", ("tags", "x")),
        ("GET", "/algorithm/v1/results/tags/a%2Fb"): ("tagged-results", ("a/b",)),
        ("POST", "/algorithm/v1/metadata/tags/a/requests/x"): ("retag", ("a", "x")),
        ("GET", "/algorithm/v1/metadata/tags/requests/x"): ("metadata", ("tags", "x")),
        ("POST", "/algorithm/v1/run/a%2Fb"): ("create", ("a/b",)),
        ("POST", "/algorithm/v1/run/a.b-c_d"): ("create", ("a.b-c_d",)),
        ("POST", "/algorithm/run/v1"): ("create", ("v1",)),
        ("HEAD", "/docs"): ("docs", ()),
        ("GET", "/data/v1/results/x/requests/a/b.json"): ("read-result", ("x", "requests/a/b.json")),
        ("PUT", "/data/v1/results/alg/requests/x"): ("upload-result", ("alg", "x")),
    }
    for (method, path), (name, parts) in cases.items():
        found = router.find(method, path.encode())
        assert (found.route.name, found.parts) == (name, parts)
    with pytest.raises(UnknownRoute):
        router.find("GET", b"/algorithm/v1")
    with pytest.raises(WrongMethod):
        router.find("PUT", b"/docs")


def test_routes_are_named_once() -> None:
    """A name is a metric's label and an operation's id: no two rows share one, no two rows the same path and method."""
    assert len({route.name for route in ROWS}) == len(ROWS)
    forms = [(route.method, path) for route in ROWS for path, _ in route.paths()]
    assert len(set(forms)) == len(forms)
    assert all(isinstance(route, Route) for route in ROWS)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_errors_are_json_with_code_message_and_hint(house: House) -> None:
    """Every error of latest has a stable code, what happened, and what to do."""
    reply = await house.call("POST", "/algorithm/latest/run/nobody", BODY)
    assert (reply.status, reply.kind) == (400, "application/json")
    assert set(reply.json()["error"]) == {"code", "message", "hint"}
    assert reply.json()["error"]["code"] == "NX203"
    reply = await house.call("GET", f"/algorithm/latest/runs/hello-world/{UNKNOWN}")
    assert (reply.status, reply.json()["error"]["code"]) == (404, "NX202")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("run/hello-world", {"algorithmParameters": {}, "tags": "x"}),
        ("cancel/hello-world/requests/{id}", {"because": "x"}),
        ("complete/hello-world/requests/{id}", {"resultURI": "x"}),
        ("metadata/tags/hello-world/requests/{id}", {"newTag": "x", "old": "y"}),
        ("templates", {"manifests": [], "prune": True}),
    ],
)
async def test_latest_refuses_unknown_fields(house: House, path: str, body: dict[str, Any]) -> None:
    """A misspelt field is 400 and named; the hint lists the fields there are."""
    path = path.replace("{id}", await house.accept())
    reply = await house.call("POST", f"/algorithm/latest/{path}", body)
    assert reply.status == 400
    assert "is no field" in reply.json()["error"]["message"]
    assert "fields:" in reply.json()["error"]["hint"]


async def test_a_late_report_is_409_and_recorded(house: House) -> None:
    """latest says that a report came too late; it is kept, and shown with the run."""
    run_id = await house.accept()
    await house.call("POST", f"/algorithm/latest/cancel/hello-world/requests/{run_id}", {})
    reply = await house.call("POST", f"/algorithm/latest/complete/hello-world/requests/{run_id}", {"resultUri": "late"})
    assert (reply.status, reply.json()["error"]["code"]) == (409, "NX214")
    found = (await house.call("GET", f"/algorithm/latest/runs/hello-world/{run_id}")).json()
    assert [report["resultUri"] for report in found["lateReports"]] == ["late"]


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_shown_without_nulls(house: House) -> None:
    """A run's view has camel-case fields, leaves out what has not come, and is what the SDK reads."""
    run_id = await house.accept({"a": 1}, tag="t")
    reply = await house.call("GET", f"/algorithm/latest/runs/hello-world/{run_id}")
    assert b"null" not in reply.body
    found = reply.json()
    assert (found["requestId"], found["stage"], found["tag"], found["caller"]) == (run_id, "BUFFERED", "t", "anonymous")
    assert (found["payloadBytes"], found["templateRevision"], found["rootId"]) == (8, 1, run_id)
    assert not {"sentAt", "startedAt", "resultUri", "failureCause", "parent", "lateReports"} & set(found)
    assert decode(SdkRun, reply.body).request_id == run_id
    await house.start(run_id)
    found = (await house.call("GET", f"/algorithm/latest/runs/hello-world/{run_id}")).json()
    assert (found["stage"], found["attempt"]) == ("RUNNING", 1)
    assert found["startedAt"] == found["sentAt"] == "2026-11-21T12:00:00.000007Z"


async def test_listings_are_paged_and_filtered(house: House) -> None:
    """Runs come newest first; `next` leads on and is left out at the end; each filter filters."""
    ids = [await house.accept(tag="odd" if number % 2 else "even") for number in range(5)]
    seen, path = [], "/algorithm/latest/runs?limit=2"
    before = ""
    while True:
        page = decode(RunPage, (await house.call("GET", path + before)).body)
        seen += [run.request_id for run in page.runs]
        if page.next is None:
            break
        before = f"&before={page.next}"
    assert seen == ids[::-1]
    for query, count in (
        ("tag=odd", 2), ("tag=even&limit=1", 1), ("stage=BUFFERED", 5), ("stage=failed", 0), ("algorithm=hello-world", 5),
        ("algorithm=other", 0), (f"root={ids[0]}", 1), (f"parent={ids[0]}", 0),
    ):  # fmt: skip
        assert len((await house.call("GET", f"/algorithm/latest/runs?{query}")).json()["runs"]) == count, query


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "stage=gone", "limit=1&limit=2", "before=nonsense"])
async def test_a_wrong_listing_is_400(house: House, query: str) -> None:
    """What cannot be asked is refused with a word about it."""
    await house.accept()
    assert (await house.call("GET", f"/algorithm/latest/runs?{query}")).status == 400


async def test_a_tree_begins_with_its_root(house: House) -> None:
    """From any run of a tree the whole tree is shown, root first."""
    root = await house.accept()
    child = await house.accept(parentRequest={"algorithmName": "hello-world", "requestId": root})
    leaf = await house.accept(parentRequest={"algorithmName": "hello-world", "requestId": child})
    found = (await house.call("GET", f"/algorithm/latest/runs/hello-world/{leaf}/tree")).json()["runs"]
    assert [run["requestId"] for run in found] == [root, child, leaf]
    assert [run.get("depth", 0) for run in found] == [0, 1, 2]
    assert found[2]["parent"] == {"algorithmName": "hello-world", "requestId": child}


async def test_a_run_shows_its_attempts_one_by_one(house: House) -> None:
    """Number, times, why it ended, exit code, figures, and where its logs are; a listing leaves them out."""
    run_id = await house.accept()
    path = f"/algorithm/latest/runs/hello-world/{run_id}"
    assert "attempts" not in (await house.call("GET", path)).json()
    for attempt in (1, 2):
        launch = Launch(run_id=run_id, algorithm="hello-world", attempt=attempt, argv=("x",), environment={})
        await house.engine.create(launch)
        await house.observed.change(run_id, lambda run, attempt=attempt: lifecycle.started(run, "uid", attempt, house.clock.now()))
        if attempt == 1:
            house.clock.pass_(timedelta(seconds=2))
            end = Exit(
                kind=ExitKind.EXITED, code=3, ended_at=house.clock.now(), detail="said", peak_memory_bytes=5 << 20, cpu_s=0.5
            )
            house.engine.finish(run_id, code=3)
            await house.observed.end_attempt(
                Ended(run_id=run_id, attempt=1, exit=end),
                lambda run: lifecycle.retrying(run, house.clock.now(), house.clock.now(), counted=True),
            )
    reply = await house.call("GET", path)
    first, second = reply.json()["attempts"]
    logs = f"http://127.0.0.1:8080/algorithm/latest/runs/hello-world/{run_id}/logs"
    assert first == {
        "attempt": 1,
        "state": "ended",
        "startedAt": "2026-11-21T12:00:00.000007Z",
        "endedAt": "2026-11-21T12:00:02.000007Z",
        "tookSeconds": 2.0,
        "end": "exited",
        "why": "it exited with code 3",
        "exitCode": 3,
        "detail": "said",
        "peakMemoryBytes": 5 << 20,
        "cpuSeconds": 0.5,
        "logs": {"stdout": f"{logs}/stdout?attempt=1", "stderr": f"{logs}/stderr?attempt=1"},
    }
    assert (second["state"], second["startedAt"], "endedAt" in second) == ("running", "2026-11-21T12:00:02.000007Z", False)
    assert [(each.attempt, each.exit_code) for each in decode(SdkRun, reply.body).attempts] == [(1, 3), (2, None)]
    log = await house.call("GET", first["logs"]["stdout"].removeprefix("http://127.0.0.1:8080"))
    assert (log.status, log.headers["x-log-attempt"]) == (200, "1")
    assert "attempts" not in (await house.call("GET", "/algorithm/latest/runs")).json()["runs"][0]


async def test_logs_come_in_pieces(house: House) -> None:
    """A log is bytes with headers that say where the next piece begins, whose it is, and whether that was all."""
    run_id = await house.accept()
    path = f"/algorithm/latest/runs/hello-world/{run_id}/logs/stdout"
    empty = await house.call("GET", path)
    assert (empty.body, empty.headers["x-log-attempt"], empty.headers["x-log-complete"]) == (b"", "0", "false")
    await house.start(run_id)
    await house.engine.create(Launch(run_id=run_id, algorithm="hello-world", attempt=1, argv=("x",), environment={}))
    house.engine.write(run_id, b"\x00binary\xff and text")
    reply = await house.call("GET", path + "?limit=7")
    assert (reply.kind, reply.body, reply.headers["x-log-offset"]) == ("application/octet-stream", b"\x00binary", "7")
    await house.call("POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {})
    assert (await house.call("GET", path)).headers["x-log-complete"] == "false"  # it reported, and lives
    house.engine.finish(run_id)
    reply = await house.call("GET", path + "?attempt=1&offset=7")
    assert (reply.body, reply.headers["x-log-complete"], reply.headers["x-log-attempt"]) == (b"\xff and text", "true", "1")
    assert (await house.call("GET", path.replace("stdout", "stdin"))).status == 400


# ── what can be run ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_algorithms_are_listed_and_shown(house: House) -> None:
    """The list is short, one algorithm has its configuration; the SDK reads both."""
    listed = decode(Templates, (await house.call("GET", "/algorithm/latest/templates")).body)
    assert [(each.name, each.revision, each.source) for each in listed.templates] == [("hello-world", 1, "hello.yaml")]
    shown = await house.call("GET", "/algorithm/latest/templates/hello-world")
    assert shown.json()["configuration"]["command"] == "python"
    assert decode(SdkTemplate, shown.body).namespace == "nexus"
    assert (await house.call("GET", "/algorithm/latest/templates/nobody")).status == 404
    assert (await house.call("GET", "/algorithm/latest/workgroups")).json()["workgroups"][0]["name"] == "default"


async def test_applying_manifests(house: House) -> None:
    """An apply says what each manifest did, and makes it current at once."""
    other = TEMPLATE.replace("hello-world", "second")
    body = {"manifests": [{"file": "a.yaml", "text": TEMPLATE, "base": "/x"}, {"file": "b.yaml", "text": other, "base": "/x"}]}
    reply = await house.call("POST", "/algorithm/latest/templates", body)
    assert reply.status == 200, reply.text
    applied = decode(Applied, reply.body).applied
    assert [(each.name, each.change, each.revision) for each in applied] == [
        ("hello-world", "unchanged", 1),
        ("second", "created", 1),
    ]
    assert (await house.call("POST", "/algorithm/v1/run/second", BODY)).status == 202
    reply = await house.call("POST", "/algorithm/latest/templates?prune=true", {"manifests": [{"text": other}]})
    assert {(each["name"], each["change"]) for each in reply.json()["applied"]} == {
        ("second", "unchanged"),
        ("hello-world", "removed"),
    }


async def test_local_paths_start_from_the_files_folder(house: House) -> None:
    """A relative path of a local annotation is taken from the folder of its file."""
    text = TEMPLATE.replace("namespace: nexus}", "namespace: nexus, annotations: {local.nexus/project: solver}}")
    body = {"manifests": [{"file": "a.yaml", "text": text, "base": "/srv/team"}]}
    assert (await house.call("POST", "/algorithm/latest/templates", body)).status == 200
    assert house.algorithms.find("hello-world").local == {"project": "/srv/team/solver"}
    assert house.algorithms.find("hello-world").trusted


async def test_a_refused_apply_carries_every_finding(house: House) -> None:
    """400 with all findings of all files, each with file, line and column; nothing was applied."""
    bad = "apiVersion: science.sneaksanddata.com/v1\nkind: NexusAlgorithmTemplate\nmetadata: {name: Bad Name}\nspec: {command: 7}\n"
    body = {
        "manifests": [{"file": "a.yaml", "text": bad}, {"file": "b.yaml", "text": "a: [\n"}, {"file": "c.yaml", "text": TEMPLATE}]
    }
    reply = await house.call("POST", "/algorithm/latest/templates", body)
    assert (reply.status, reply.kind) == (400, "application/json")
    error = reply.json()["error"]
    assert {finding["file"] for finding in error["findings"]} == {"a.yaml", "b.yaml"}
    assert set(error["findings"][0]) == {"file", "line", "column", "code", "message", "hint", "severity"}
    assert any(finding["line"] == 3 for finding in error["findings"])
    assert len(error["findings"]) >= 3
    assert (await house.call("POST", "/algorithm/latest/templates", {"manifests": []})).status == 400


# ── service and registry ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_queue_is_shown(house: House) -> None:
    """Runs by stage, and what waits, runs and fits."""
    await house.accept()
    house.backlog = 3
    found = (await house.call("GET", "/algorithm/latest/queue")).json()
    assert (found["stages"]["BUFFERED"], found["waiting"], found["running"], found["capacity"]) == (1, 3, 0, {"runs": 4})


async def test_a_registry_is_shown_where_there_is_one() -> None:
    """Views of a registry are read-only JSON by name; without one, or without such a view, 404 says what to do."""

    def packages(query: Any) -> Any:
        if query.get("name") == "none":
            raise NotFound("no package is called `none`")
        return {"packages": ["a"], "asked": dict(query)}

    house = await House(registry={"packages": packages}).furnish()
    found = await house.call("GET", "/algorithm/latest/registry/packages?variant=x")
    assert found.json() == {"packages": ["a"], "asked": {"variant": "x"}}
    found = await house.call("GET", "/algorithm/latest/registry/packages/team%2Fa")
    assert found.json()["asked"] == {"name": "team/a"}
    assert (await house.call("GET", "/algorithm/latest/registry/packages/none")).status == 404
    assert "`packages`" in (await house.call("GET", "/algorithm/latest/registry/models")).text
    bare = await House().furnish()
    assert "--registry" in (await bare.call("GET", "/algorithm/latest/registry/packages")).json()["error"]["hint"]


async def test_a_misspelt_filter_is_refused_by_latest() -> None:
    """A field the route does not know is 400 with the fields it knows: it must not list everything instead."""
    house = await House().furnish()
    reply = await house.call("GET", "/algorithm/latest/runs?algoritm=x")
    assert reply.status == 400
    assert "`algoritm` is no field of this query" in reply.text
    assert "`algorithm`" in reply.json()["error"]["hint"]


async def test_latest_refuses_overrides_that_would_change_nothing() -> None:
    """``customConfiguration.command`` is 400 on latest, which says so; v1 lets it pass, as existing clients expect."""
    house = await House().furnish()
    body = {"algorithmParameters": {}, "customConfiguration": {"command": "sh"}}
    reply = await house.call("POST", "/algorithm/latest/run/hello-world", body)
    assert (reply.status, reply.json()["error"]["code"]) == (400, "NX210")
    assert "`customConfiguration.command` cannot be overridden" in reply.text
    assert (await house.call("POST", "/algorithm/v1/run/hello-world", body)).status == 202
