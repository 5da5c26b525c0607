"""API v1 but for accepting: results, metadata, cancel, and what an algorithm reports. ``latest`` has the same routes.

Content types follow what existing clients can take: cancel answers text, 404 is HTML (see :mod:`nexus.api.answers`).
"""

from __future__ import annotations

import asyncio

from nexus.api import guard, views
from nexus.api.answers import Answer, as_json
from nexus.api.envelope import tag_problems
from nexus.api.request import Request, seconds
from nexus.api.routes import BOTH, Field, Route
from nexus.api.services import Context
from nexus.kernel.access import Scope
from nexus.kernel.errors import AlreadyReported, InvalidEnvelope
from nexus.kernel.units import format_duration
from nexus.runs import launching
from nexus.runs.cancellation import FOREGROUND_S
from nexus.runs.model import Report
from nexus.wire import v1

MAX_BODY = 64 * 1024
MAX_CAUSE = 4 * 1024
MAX_DETAILS = 64 * 1024
MAX_URI = 8 * 1024
MAX_WORDS = 1024
_AT_ONCE = 500  # rows of an answer without pages, before others have their turn

_WAIT = Field("wait", "number", "Seconds (at most 60) to hold the answer until the run has ended.")
_PATIENCE = Field("wait", "number", "Seconds (at most 60, 30 unless given) that Foreground waits for processes to end.")
_NOT_FOUND = {404: "No run of this algorithm has this id."}


async def cancel(context: Context, request: Request) -> Answer:
    """Stores the cancel, then ends what runs. A run that has ended stays as it is."""
    query = request.query()
    wait_s = seconds(query, "wait", context.settings.max_wait_s) if "wait" in query else FOREGROUND_S
    await guard.find_run(context, request)
    asked = await request.json(v1.CancelRequest, MAX_BODY)
    initiator, reason = asked.initiator or request.principal.name, asked.reason or ""
    done = await context.services.cancellation.cancel(
        request.parts[0],
        request.parts[1],
        policy=asked.cancellationPolicy,
        initiator=initiator[:MAX_WORDS],
        reason=reason[:MAX_WORDS],
        wait_s=wait_s,
    )
    if done.gone:
        return Answer(200)
    left = f"The run is cancelled. Processes of it had not ended after {format_duration(wait_s)}; the service goes on ending them."
    return Answer(200, left.encode())


async def result(context: Context, request: Request) -> Answer:
    wait_s = seconds(request.query(), "wait", context.settings.max_wait_s)
    return as_json(views.result(context, request, await guard.find_run(context, request, wait_s=wait_s)))


async def tagged_results(context: Context, request: Request) -> Answer:
    root_id = await guard.root_of(context, request.principal)
    runs = await context.services.reading.tagged(request.parts[0])
    rows = []
    for number, run in enumerate(runs):
        if root_id in (None, run.root_id):
            rows.append(views.tagged_result(context, request, run))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return as_json(rows)


async def metadata(context: Context, request: Request) -> Answer:
    wait_s = seconds(request.query(), "wait", context.settings.max_wait_s)
    return as_json(await views.metadata(context, request, await guard.find_run(context, request, wait_s=wait_s)))


async def buffer(context: Context, request: Request) -> Answer:
    run = await guard.find_run(context, request)
    configuration = await context.services.reading.configuration(run)
    workgroup = context.services.algorithms.workgroup_of(configuration)
    return Answer(200, launching.submission_text(run, configuration, workgroup).encode())


async def payload(context: Context, request: Request) -> Answer:
    run = await guard.find_run(context, request)
    uri = views.payload_uri(context, request, run, await context.services.reading.configuration(run))
    return Answer(302, headers=((b"location", uri.encode()),))


async def complete(context: Context, request: Request) -> Answer:
    """Stores the report, then answers. A late one is kept beside the run: v1 is told 202, ``latest`` 409."""
    run = await guard.find_run(context, request)
    said = await request.json(v1.Completion, context.settings.max_report_bytes)
    uri = said.resultUri or ""
    if len(uri) > MAX_URI:
        raise InvalidEnvelope(f"`resultUri` has {len(uri)} characters; at most {MAX_URI} are kept")
    report = Report(
        received_at=context.services.clock.now(),
        result_uri=uri,
        error_cause=_shortened(said.errorCause or "", MAX_CAUSE),
        error_details=_shortened(said.errorDetails or "", MAX_DETAILS),
    )
    decided = await context.services.completion.report(run.algorithm, run.id, report)
    if not decided and request.strict:
        raise AlreadyReported(
            f"run `{run.algorithm}/{run.id}` had already ended when this report came", hint="the report is kept beside the run"
        )
    return Answer(202, b"{}", b"application/json")


async def check(context: Context, request: Request) -> Answer:
    run = await guard.find_run(context, request)
    return as_json(v1.Processed(is_processed=run.stage.final))


async def retag(context: Context, request: Request) -> Answer:
    run = await guard.find_run(context, request)
    asked = await request.json(v1.NewTag, MAX_BODY)
    problems = tag_problems(asked.newTag) if asked.newTag else ["the tag is empty"]
    if problems:
        raise InvalidEnvelope("; ".join(problems))
    await context.services.tagging.retag(run.algorithm, run.id, asked.newTag)
    return Answer(200)


def _shortened(text: str, limit: int) -> str:
    """The beginning and the end of a long text: both ends of a traceback say something."""
    if len(text) <= limit:
        return text
    half = limit // 2 - 32
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


ROWS = (
    Route(
        name="cancel", method="POST", path="/algorithm/{api}/cancel/{algorithm}/requests/{id}", apis=BOTH, handler=cancel,
        doc="Cancel a run: Background and Foreground with its whole tree, Orphan this run alone. What has ended stays as it is. "
        "Background answers when the cancel is stored; Foreground when no process is left, or after its wait: the text then says "
        "that some are, and the service goes on ending them.",
        scope=Scope.SUBMIT, takes=v1.CancelRequest, gives="text/plain", query=(_PATIENCE,),
        statuses={400: "No such policy, or not a cancel request.", **_NOT_FOUND},
    ),
    Route(
        name="result", method="GET", path="/algorithm/{api}/results/{algorithm}/requests/{id}", apis=BOTH, handler=result,
        doc="How a run stands, and its result's address once it has completed.",
        scope=Scope.READ, run="tree", gives=v1.Result, query=(_WAIT,), statuses=_NOT_FOUND,
    ),
    Route(
        name="tagged-results", method="GET", path="/algorithm/{api}/results/tags/{tag}", apis=BOTH, handler=tagged_results,
        doc="The results of every run with this tag, newest first; an empty list when there is none.",
        scope=Scope.READ, run="tree", gives=list[v1.TaggedResult],
    ),
    Route(
        name="metadata", method="GET", path="/algorithm/{api}/metadata/{algorithm}/requests/{id}", apis=BOTH, handler=metadata,
        doc="Everything the service knows of a run: times, configuration, addresses of payload and result.",
        scope=Scope.READ, run="tree", gives=v1.Metadata, query=(_WAIT,), statuses=_NOT_FOUND,
    ),
    Route(
        name="buffer", method="GET", path="/algorithm/{api}/buffer/{algorithm}/requests/{id}", apis=BOTH, handler=buffer,
        doc="What the run is submitted as, rendered for people. No address in it is signed.",
        scope=Scope.READ, run="tree", gives="text/plain", statuses=_NOT_FOUND,
    ),
    Route(
        name="payload", method="GET", path="/algorithm/{api}/payload/{algorithm}/requests/{id}", apis=BOTH, handler=payload,
        doc="Leads to the run's payload.", scope=Scope.READ, run="own", gives="", status=302, statuses=_NOT_FOUND,
    ),
    Route(
        name="complete", method="POST", path="/algorithm/{api}/complete/{algorithm}/requests/{id}", apis=BOTH, handler=complete,
        doc="An algorithm's report at its end; stored when the answer is 202. A non-empty `errorCause` means that it failed. "
        "A report after the end is kept and changes nothing: v1 answers 202, latest 409.",
        group="receiver", scope=Scope.OPERATE, run="own", takes=v1.Completion, gives="application/json", status=202,
        statuses={400: "Not a report.", 409: "The run had already ended (latest only).", **_NOT_FOUND},
    ),
    Route(
        name="check", method="GET", path="/algorithm/{api}/check/{algorithm}/requests/{id}", apis=BOTH, handler=check,
        doc="Whether the run has ended.", group="receiver", scope=Scope.READ, run="own", gives=v1.Processed, statuses=_NOT_FOUND,
    ),
    Route(
        name="retag", method="POST", path="/algorithm/{api}/metadata/tags/{algorithm}/requests/{id}", apis=BOTH, handler=retag,
        doc="Give a run another tag.", scope=Scope.SUBMIT, takes=v1.NewTag, gives="text/plain",
        statuses={400: "The tag cannot be kept.", **_NOT_FOUND},
    ),
)  # fmt: skip
