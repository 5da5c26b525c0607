"""How runs are shown: from stored values to the structs of the wire. Signed addresses are made here, at read time."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from nexus.api.answers import encode
from nexus.api.request import Request
from nexus.api.services import Context
from nexus.kernel.clock import rfc3339
from nexus.runs import launching, urls
from nexus.runs.attempts import Attempt
from nexus.runs.configuration import Configuration
from nexus.runs.model import Report, Run, Stage
from nexus.runs.reading import STREAMS
from nexus.runs.templates import shown_overrides
from nexus.wire import v1

_ENDED_BADLY = frozenset({Stage.FAILED, Stage.CANCELLED, Stage.SCHEDULING_FAILED, Stage.DEADLINE_EXCEEDED})


class LateReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A report that came after the run's end; kept, and without effect."""

    received_at: str
    result_uri: str = ""
    error_cause: str = ""
    error_details: str = ""


class AttemptView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One attempt. ``state`` is ``running``, ``ended`` or ``unknown``; ``end`` how it ended (``exited``, ``signalled``,
    ``out-of-memory``, ``deadline``, ``cancelled``, ``launch-failed``, ``lost``), ``why`` the same in words. ``logs`` are the
    addresses of ``stdout`` and ``stderr`` while they are kept.
    """

    attempt: int
    state: str
    started_at: str = ""
    ended_at: str = ""
    took_seconds: float | None = None
    end: str = ""
    why: str = ""
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    logs: dict[str, str] = {}


class RunView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A run as ``latest`` shows it. Times are RFC 3339 UTC with microseconds; what has not come is left out.

    ``attempt`` is the number of the newest attempt. ``attempts`` and ``lateReports`` are there when one run was asked for.
    """

    request_id: str
    algorithm: str
    stage: str
    root_id: str
    received_at: str
    last_modified: str
    caller: str
    template_revision: int
    payload_bytes: int
    depth: int = 0
    attempt: int = 0
    dry_run: bool = False
    tag: str = ""
    parent: v1.ParentRequest | None = None
    sent_at: str = ""
    started_at: str = ""
    result_uri: str = ""
    failure_cause: str = ""
    failure_details: str = ""
    attempts: list[AttemptView] = []
    late_reports: list[LateReport] = []


class RunPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Runs, newest first. ``next`` is the ``before`` of the following page."""

    runs: list[RunView]
    next: str = ""


def base_url(context: Context, request: Request) -> str:
    """What addresses of this service begin with, for this caller."""
    if context.settings.public_url:
        return context.settings.public_url.rstrip("/")
    scheme = request.scope.get("scheme", "http")
    if context.settings.behind_proxy and request.headers.get(b"x-forwarded-proto") in (b"http", b"https"):
        scheme = request.headers[b"x-forwarded-proto"].decode()
    return f"{scheme}://{request.headers[b'host'].decode('latin-1')}"


def result_uri(context: Context, request: Request, run: Run) -> str:
    """Where the result is read: a signed address when it is ours, the stored URI as it is when not, empty when there is none."""
    key = context.services.reading.result_key(run)
    if key is None:
        return run.result_uri or ""
    path = urls.result_path(key)
    return f"{base_url(context, request)}{path}?{context.services.signer.sign('GET', path, context.settings.result_valid_for)}"


def payload_uri(context: Context, request: Request, run: Run, configuration: Configuration) -> str:
    """Where the payload is read, signed from now."""
    return f"{base_url(context, request)}{launching.payload_link(run, configuration, context.services.signer)}"


def result(context: Context, request: Request, run: Run) -> v1.Result:
    """The result as v1 shows it."""
    return v1.Result(requestId=run.id, status=run.stage.value, **_outcome(context, request, run))


def tagged_result(context: Context, request: Request, run: Run) -> v1.TaggedResult:
    """The result as the tags route shows it."""
    outcome = _outcome(context, request, run)
    return v1.TaggedResult(requestId=run.id, status=run.stage.value, algorithmName=run.algorithm, **outcome)


def _outcome(context: Context, request: Request, run: Run) -> dict[str, str]:
    if run.stage is Stage.COMPLETED:
        return {"resultUri": result_uri(context, request, run)}
    return {"runErrorMessage": run.failure_cause or ""} if run.stage in _ENDED_BADLY else {}


async def metadata(context: Context, request: Request, run: Run) -> v1.Metadata:
    """Everything v1 shows of a run."""
    configuration = await context.services.reading.configuration(run)
    return v1.Metadata(
        algorithm=run.algorithm,
        id=run.id,
        lifecycle_stage=run.stage.value,
        received_by_host=run.received_by,
        received_at=rfc3339(run.received_at),
        last_modified=rfc3339(run.last_modified),
        content_hash=run.content_hash,
        applied_configuration=msgspec.Raw(configuration.json),
        payload_uri=payload_uri(context, request, run, configuration),
        result_uri=result_uri(context, request, run),
        algorithm_failure_cause=run.failure_cause or "",
        algorithm_failure_details=run.failure_details or "",
        sent_at=rfc3339(run.sent_at) if run.sent_at else "",
        api_version=run.api_version,
        tag=run.tag or "",
        job_uid=run.job_uid or "",
        parent=_parent(run),
        **_overrides(run.overrides),
    )


def attempt_view(context: Context, request: Request, run: Run, attempt: Attempt) -> AttemptView:
    """One attempt of a run."""
    end, began = attempt.exit, attempt.started_at
    logs = f"{base_url(context, request)}/algorithm/latest/runs/{quote(run.algorithm, safe='')}/{run.id}/logs"
    return AttemptView(
        attempt=attempt.number,
        state=attempt.state.value,
        started_at=rfc3339(began) if began else "",
        ended_at=rfc3339(end.ended_at) if end else "",
        took_seconds=max((end.ended_at - began).total_seconds(), 0.0) if end and began else None,
        end=end.kind.value if end else "",
        why=attempt.why,
        exit_code=end.code if end else None,
        signal=end.signal if end else None,
        detail=end.detail if end else "",
        peak_memory_bytes=end.peak_memory_bytes if end else None,
        cpu_seconds=end.cpu_s if end else None,
        logs={stream: f"{logs}/{stream}?attempt={attempt.number}" for stream in STREAMS} if attempt.logs_kept else {},
    )


def late_view(report: Report) -> LateReport:
    """One late report of a run."""
    return LateReport(
        received_at=rfc3339(report.received_at),
        result_uri=report.result_uri,
        error_cause=report.error_cause,
        error_details=report.error_details,
    )


def run_view(
    context: Context,
    request: Request,
    run: Run,
    attempts: Sequence[AttemptView] = (),
    late: Sequence[LateReport] = (),
) -> RunView:
    """Everything ``latest`` shows of a run."""
    return RunView(
        request_id=run.id,
        algorithm=run.algorithm,
        stage=run.stage.value,
        root_id=run.root_id,
        received_at=rfc3339(run.received_at),
        last_modified=rfc3339(run.last_modified),
        caller=run.caller,
        template_revision=run.template_revision,
        payload_bytes=run.payload.size_bytes,
        depth=run.depth,
        attempt=run.attempt,
        dry_run=run.dry_run,
        tag=run.tag or "",
        parent=_parent(run),
        sent_at=rfc3339(run.sent_at) if run.sent_at else "",
        started_at=rfc3339(run.first_started_at) if run.first_started_at else "",
        result_uri=result_uri(context, request, run),
        failure_cause=run.failure_cause or "",
        failure_details=run.failure_details or "",
        attempts=list(attempts),
        late_reports=list(late),
    )


def _parent(run: Run) -> v1.ParentRequest | None:
    return v1.ParentRequest(run.parent.algorithm, run.parent.run_id) if run.parent else None


def _overrides(sent: bytes | None) -> dict[str, msgspec.Raw]:
    """The overrides as existing clients can read them."""
    if not sent:
        return {}
    return {"configuration_overrides": msgspec.Raw(encode(shown_overrides(msgspec.json.decode(sent))))}
