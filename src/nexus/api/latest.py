"""What ``latest`` has beyond v1: listings, trees, logs, what can be run, the queue, and views of a registry. JSON throughout."""

from __future__ import annotations

import asyncio
import posixpath
from typing import Any

import msgspec

from nexus.api import guard, views
from nexus.api.answers import BYTES, Answer, RefusedFindings, as_json, finding_view
from nexus.api.request import Request, flag, seconds, whole
from nexus.api.routes import LATEST, Field, Route
from nexus.api.services import Context
from nexus.kernel.access import Scope
from nexus.kernel.documents import Finding
from nexus.kernel.errors import InvalidEnvelope, InvalidInput, InvalidTemplate, MissingScope, NexusError, NotFound
from nexus.runs.algorithms import TEMPLATE, Applied
from nexus.runs.attempts import MAX_ATTEMPTS
from nexus.runs.model import Stage
from nexus.runs.ports import Filter
from nexus.runs.reading import MAX_PAGE
from nexus.runs.templates import Look, Manifest, Template, Workgroup, read_manifests

MAX_LOG = 4 * 1024 * 1024
_DEFAULT_LOG = 1024 * 1024
MAX_MANIFESTS = 10_000
_NARROWED = (Field("name", "string", "One thing of the view."), Field("variant", "string", "One variant of the registry."))


class ManifestFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of an apply. ``base`` is the absolute folder its relative local paths start from."""

    text: str
    file: str = "manifest.yaml"
    base: str = ""


class ApplyRequest(msgspec.Struct, frozen=True, kw_only=True):
    manifests: list[ManifestFile]


class FindingView(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a file; ``severity`` is ``error`` or ``warning``."""

    file: str
    line: int
    column: int
    code: str
    message: str
    hint: str
    severity: str


class ApplyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What each manifest's apply did: ``created``, ``updated``, ``unchanged`` or ``removed``."""

    applied: list[Applied]
    warnings: list[FindingView]


class TemplateView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An algorithm. ``configuration`` (the sections of its spec) is there when one was asked for."""

    name: str
    namespace: str
    revision: int
    trusted: bool
    source: str = ""
    description: str = ""
    workgroup: str = ""
    configuration: dict[str, Any] = {}
    annotations: dict[str, str] = {}


class TemplateList(msgspec.Struct, frozen=True):
    templates: list[TemplateView]


class WorkgroupList(msgspec.Struct, frozen=True):
    workgroups: list[Workgroup]


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """Runs by stage, how many wait and run at the dispatcher, and what there is room for."""

    stages: dict[str, int]
    waiting: int
    running: int
    capacity: dict[str, Any]


async def list_runs(context: Context, request: Request) -> Answer:
    query = request.query()
    where = Filter(
        algorithm=query.get("algorithm"),
        stage=_stage(query.get("stage")),
        tag=query.get("tag"),
        root_id=query.get("root"),
        parent_id=query.get("parent"),
    )
    root_id = await guard.root_of(context, request.principal)
    if root_id is not None:
        if where.root_id not in (None, root_id):
            raise MissingScope("the token of a run is good for its own tree", hint="use a token with the scope `read`")
        where = msgspec.structs.replace(where, root_id=root_id)
    limit = whole(query, "limit", 100, least=1, most=MAX_PAGE)
    runs, following = await context.services.reading.page(where, limit=limit, before=query.get("before"))
    return as_json(views.RunPage(runs=[views.run_view(context, request, run) for run in runs], next=following or ""))


async def show_run(context: Context, request: Request) -> Answer:
    wait_s = seconds(request.query(), "wait", context.settings.max_wait_s)
    run = await guard.find_run(context, request, wait_s=wait_s)
    reading = context.services.reading
    attempts = [views.attempt_view(context, request, run, each) for each in await reading.attempts(run)]
    late = [views.late_view(report) for report in await reading.late_reports(run)]
    return as_json(views.run_view(context, request, run, attempts, late))


async def tree(context: Context, request: Request) -> Answer:
    run = await guard.find_run(context, request)
    runs = await context.services.reading.tree(run)
    return as_json(views.RunPage(runs=[views.run_view(context, request, each) for each in runs]))


async def log(context: Context, request: Request) -> Answer:
    run = await guard.find_run(context, request)
    query = request.query()
    attempt = whole(query, "attempt", 0, least=1, most=1_000_000) if "attempt" in query else None
    piece = await context.services.reading.log(
        run,
        request.parts[2],
        attempt=attempt,
        offset=whole(query, "offset", 0),
        limit=whole(query, "limit", _DEFAULT_LOG, least=1, most=MAX_LOG),
    )
    headers = (
        (b"x-log-offset", str(piece.next_offset).encode()),
        (b"x-log-attempt", str(piece.attempt).encode()),
        (b"x-log-complete", b"true" if piece.complete else b"false"),
        (b"x-content-type-options", b"nosniff"),
    )
    return Answer(200, piece.data, BYTES, headers)


async def list_templates(context: Context, request: Request) -> Answer:
    return as_json(TemplateList([_template_view(context, template) for template in context.services.algorithms.templates()]))


async def show_template(context: Context, request: Request) -> Answer:
    name = request.parts[0]
    for template in context.services.algorithms.templates():
        if template.name == name:
            view = _template_view(context, template)
            return as_json(msgspec.structs.replace(view, configuration=template.sections, annotations=template.annotations))
    raise NotFound(f"no algorithm is called `{name[:64]}`", hint="`nexus algorithms list` shows what is registered")


async def list_workgroups(context: Context, request: Request) -> Answer:
    return as_json(WorkgroupList(context.services.algorithms.workgroups()))


async def apply(context: Context, request: Request) -> Answer:
    """Stores manifests, all or nothing. The route needs the scope to operate, so their local annotations are trusted."""
    prune = flag(request.query(), "prune")
    asked = await request.json(ApplyRequest, context.settings.max_manifest_bytes)
    if not asked.manifests or len(asked.manifests) > MAX_MANIFESTS:
        raise InvalidEnvelope(f"`manifests` has {len(asked.manifests)} files", hint=f"1 to {MAX_MANIFESTS} are taken at once")
    manifests, findings = await asyncio.to_thread(_read_all, asked.manifests, context.services.look)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        count = "1 finding" if len(errors) == 1 else f"{len(errors)} findings"
        error: NexusError = InvalidTemplate(f"nothing was applied: {count}", hint="mend them and apply again")
        raise RefusedFindings(error, findings)
    applied = await context.services.algorithms.apply(manifests, trusted=True, prune=prune)
    findings += context.services.algorithms.lost_workgroups()
    return as_json({"applied": applied, "warnings": [finding_view(finding) for finding in findings]})


async def queue(context: Context, request: Request) -> Answer:
    counts = await context.services.reading.counts()
    return as_json({"stages": {stage.value: counts.get(stage, 0) for stage in Stage}, **context.services.queue()})


async def registry(context: Context, request: Request) -> Answer:
    known = context.services.registry
    if not known:
        raise NotFound("this service shows no registry", hint="start it with `--registry PATH`")
    view = known.get(request.parts[0])
    if view is None:
        raise NotFound(f"the registry has no view `{request.parts[0][:64]}`", hint=f"there are `{'`, `'.join(sorted(known))}`")
    query = request.query()
    if len(request.parts) > 1:
        query = {**query, "name": request.parts[1]}
    return as_json(await asyncio.to_thread(view, query))


def _stage(text: str | None) -> Stage | None:
    if text is None:
        return None
    try:
        return Stage(text.upper())
    except ValueError as error:
        raise InvalidInput(f"`{text[:32]}` is no stage", hint=f"one of `{'`, `'.join(Stage)}`") from error


def _template_view(context: Context, template: Template) -> TemplateView:
    stored = context.services.algorithms.stored(TEMPLATE, template.name)
    return TemplateView(
        name=template.name,
        namespace=template.namespace,
        revision=template.revision,
        trusted=template.trusted,
        source=stored.source if stored else "",
        description=template.annotations.get("description", ""),
        workgroup=template.sections["workgroupRef"].get("name") or "",
    )


def _read_all(files: list[ManifestFile], look: Look | None) -> tuple[list[Manifest], list[Finding]]:
    manifests: list[Manifest] = []
    findings: list[Finding] = []
    for file in files:
        if file.base and not posixpath.isabs(file.base):
            findings.append(Finding(code="NX-T09", file=file.file, message=f"`base` is `{file.base[:64]}`, which is not absolute"))
        read, found = read_manifests(file.text, file.file, base=file.base, look=look)
        manifests += read
        findings += found
    return manifests, findings


_WAIT = Field("wait", "number", "Seconds (at most 60) to hold the answer until the run has ended.")
_NO_RUN = {404: "No run of this algorithm has this id."}
_RUN = "/algorithm/{api}/runs/{algorithm}/{id}"

ROWS = (
    Route(
        name="list-runs", method="GET", path="/algorithm/{api}/runs", apis=LATEST, handler=list_runs,
        doc="Runs, newest first, page by page.", scope=Scope.READ, run="tree", gives=views.RunPage,
        query=(
            Field("algorithm", "string", "Runs of this algorithm."), Field("stage", "string", "Runs at this stage."),
            Field("tag", "string", "Runs with this tag."), Field("root", "string", "Runs of the tree with this root."),
            Field("parent", "string", "Children of this run."),
            Field("limit", "integer", f"Runs a page, 1 to {MAX_PAGE}; 100 unless given."),
            Field("before", "string", "The `next` of the page before."),
        ),
        statuses={400: "A field of the query is wrong."},
    ),
    Route(
        name="show-run", method="GET", path=_RUN, apis=LATEST, handler=show_run,
        doc=f"Everything about one run, its attempts one by one (the newest {MAX_ATTEMPTS} of them).",
        scope=Scope.READ, run="tree", gives=views.RunView, query=(_WAIT,), statuses=_NO_RUN,
    ),
    Route(
        name="tree", method="GET", path=_RUN + "/tree", apis=LATEST, handler=tree,
        doc="The whole execution tree the run belongs to, root first.", scope=Scope.READ, run="tree", gives=views.RunPage,
        statuses=_NO_RUN,
    ),
    Route(
        name="log", method="GET", path=_RUN + "/logs/{stream}", apis=LATEST, handler=log,
        doc="Bytes of `stdout` or `stderr` of an attempt (the newest unless named). `X-Log-Offset` is where the next piece begins, "
        "`X-Log-Attempt` whose it is, `X-Log-Complete` whether the attempt has ended and this reaches its end.",
        scope=Scope.READ, run="tree", gives="application/octet-stream",
        query=(
            Field("attempt", "integer", "Which attempt, from 1."), Field("offset", "integer", "Where to begin, in bytes."),
            Field("limit", "integer", f"Bytes at most, up to {MAX_LOG}."),
        ),
        statuses={400: "No such stream.", **_NO_RUN},
    ),
    Route(
        name="list-templates", method="GET", path="/algorithm/{api}/templates", apis=LATEST, handler=list_templates,
        group="algorithms", doc="The algorithms that are registered.", scope=Scope.READ, gives=TemplateList,
    ),
    Route(
        name="show-template", method="GET", path="/algorithm/{api}/templates/{name}", apis=LATEST, handler=show_template,
        group="algorithms", doc="One algorithm with its configuration.", scope=Scope.READ, gives=TemplateView,
        statuses={404: "No algorithm has this name."},
    ),
    Route(
        name="apply", method="POST", path="/algorithm/{api}/templates", apis=LATEST, handler=apply, group="algorithms",
        doc="Register manifests of algorithms and workgroups, all or nothing. A refusal carries every finding and its place.",
        scope=Scope.OPERATE, takes=ApplyRequest, gives=ApplyAnswer,
        query=(Field("prune", "boolean", "Remove what is not among the manifests, in the same step."),),
        statuses={400: "The manifests have errors: `error.findings` lists them. Nothing was applied."},
    ),
    Route(
        name="list-workgroups", method="GET", path="/algorithm/{api}/workgroups", apis=LATEST, handler=list_workgroups,
        group="algorithms", doc="Where runs can be sent.", scope=Scope.READ, gives=WorkgroupList,
    ),
    Route(
        name="queue", method="GET", path="/algorithm/{api}/queue", apis=LATEST, handler=queue, group="service",
        doc="Runs by stage, and what waits and runs now.", scope=Scope.READ, gives=QueueView,
    ),
    Route(
        name="registry", method="GET", path="/algorithm/{api}/registry/{view}", apis=LATEST, handler=registry, group="registry",
        doc="A read-only view of the registry this service was started with: packages, models, owners, findings, variants, audit.",
        scope=Scope.READ, gives="application/json", statuses={404: "No such view, or no registry."}, query=_NARROWED,
    ),
    Route(
        name="registry-item", method="GET", path="/algorithm/{api}/registry/{view}/{name}", apis=LATEST, handler=registry,
        group="registry", doc="One thing of such a view, by name.", scope=Scope.READ, gives="application/json",
        statuses={404: "No such view, or no registry."}, query=_NARROWED,
    ),
)  # fmt: skip
