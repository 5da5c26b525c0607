"""Bodies of HTTP API v1 (prefix ``/algorithm/v1``). Field names are the wire's; nothing here decides anything.

Answers never carry ``null``: a field without a value is left out (``omit_defaults``), because existing clients refuse it.
Requests take ``null`` for "not given".
"""

from __future__ import annotations

import msgspec


class ParentRequest(msgspec.Struct, frozen=True):
    """The run that spawns this one."""

    algorithmName: str
    requestId: str


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be accepted. ``algorithmParameters`` must be a JSON object; its bytes are kept, never decoded.

    ``payloadValidFor`` is a duration such as ``24h``.
    """

    algorithmParameters: msgspec.Raw
    customConfiguration: msgspec.Raw = msgspec.Raw()
    requestApiVersion: str | None = None
    tag: str | None = None
    parentRequest: ParentRequest | None = None
    payloadValidFor: str | None = None


class CreateResponse(msgspec.Struct, frozen=True):
    """Every value is a string."""

    requestId: str


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    initiator: str | None = None
    reason: str | None = None
    cancellationPolicy: str | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """An algorithm's report; a non-empty ``errorCause`` means it failed."""

    resultUri: str | None = None
    errorCause: str | None = None
    errorDetails: str | None = None


class Processed(msgspec.Struct, frozen=True):
    is_processed: bool


class NewTag(msgspec.Struct, frozen=True):
    newTag: str


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``resultUri`` when COMPLETED; ``runErrorMessage`` when the run ended otherwise."""

    requestId: str
    status: str
    resultUri: str = ""
    runErrorMessage: str = ""


class TaggedResult(Result, frozen=True, kw_only=True, omit_defaults=True):
    algorithmName: str


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything the store knows of a run. Times are RFC 3339 UTC with microseconds."""

    algorithm: str
    id: str
    lifecycle_stage: str
    received_by_host: str
    received_at: str
    last_modified: str
    content_hash: str
    applied_configuration: msgspec.Raw
    payload_uri: str = ""
    result_uri: str = ""
    algorithm_failure_cause: str = ""
    algorithm_failure_details: str = ""
    sent_at: str = ""
    api_version: str = ""
    tag: str = ""
    job_uid: str = ""
    parent: ParentRequest | None = None
    configuration_overrides: msgspec.Raw = msgspec.Raw()
