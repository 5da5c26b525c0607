"""Values the client hands out. Field names here are Python's; on the wire, and in printed JSON, they are camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from nexus.kernel.documents import Finding
from nexus.kernel.errors import InvalidInput

FINAL_STAGES = frozenset({"COMPLETED", "FAILED", "SCHEDULING_FAILED", "DEADLINE_EXCEEDED", "CANCELLED"})


class RunRef(msgspec.Struct, frozen=True):
    """Names one run. As text: ``algorithm/id``."""

    algorithm: str
    id: str

    @classmethod
    def parse(cls, text: str) -> RunRef:
        """The run that ``algorithm/id`` names. Raises InvalidInput."""
        algorithm, _, run_id = text.rpartition("/")
        if not algorithm or not run_id:
            raise InvalidInput(f"`{text}` does not name a run", hint="write ALGORITHM/ID")
        return cls(algorithm, run_id)

    def __str__(self) -> str:
        return f"{self.algorithm}/{self.id}"


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands. ``result_uri`` is set when it completed with a result, ``message`` when it ended otherwise."""

    ref: RunRef
    stage: str
    result_uri: str = ""
    message: str = ""

    @property
    def final(self) -> bool:
        return self.stage in FINAL_STAGES

    @property
    def ok(self) -> bool:
        return self.stage == "COMPLETED"


class Parent(msgspec.Struct, frozen=True):
    """The run that spawned another, as the wire names it."""

    algorithmName: str
    requestId: str

    @property
    def ref(self) -> RunRef:
        return RunRef(self.algorithmName, self.requestId)


class LateReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A report that came after the run's end; it was recorded and changed nothing."""

    received_at: datetime
    result_uri: str = ""
    error_cause: str = ""
    error_details: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One attempt of a run. ``state`` is ``running``, ``ended`` or ``unknown``, ``why`` says in words how it ended.

    ``logs``: where ``stdout`` and ``stderr`` are read, while they are kept.
    """

    attempt: int
    state: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    took_seconds: float | None = None
    end: str = ""
    why: str = ""
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    logs: dict[str, str] = {}


class RunView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Everything a reader of a run may know. ``attempts`` and ``late_reports`` are there when one run was asked for."""

    request_id: str
    algorithm: str
    stage: str
    root_id: str
    received_at: datetime
    last_modified: datetime
    depth: int = 0
    tag: str | None = None
    parent: Parent | None = None
    caller: str = ""
    dry_run: bool = False
    sent_at: datetime | None = None
    started_at: datetime | None = None
    attempt: int = 0
    result_uri: str | None = None
    failure_cause: str | None = None
    failure_details: str | None = None
    template_revision: int = 0
    payload_bytes: int = 0
    attempts: list[Attempt] = []
    late_reports: list[LateReport] = []

    @property
    def ref(self) -> RunRef:
        return RunRef(self.algorithm, self.request_id)

    @property
    def final(self) -> bool:
        return self.stage in FINAL_STAGES


class RunPage(msgspec.Struct, frozen=True):
    """Some runs, newest first; ``next`` is where the following page begins."""

    runs: list[RunView]
    next: str | None = None


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An algorithm that can be run. ``configuration`` and ``annotations`` are there when one was asked for.

    ``trusted``: its local annotations, which are code execution, are followed.
    """

    name: str
    namespace: str = ""
    revision: int = 0
    source: str = ""
    workgroup: str = ""
    description: str = ""
    trusted: bool = False
    configuration: dict[str, Any] = {}
    annotations: dict[str, str] = {}


class Templates(msgspec.Struct, frozen=True):
    templates: list[Template]


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An access token without its text, which is kept nowhere."""

    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    expired: bool = False


class NewToken(TokenInfo, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A token that was just made. ``token`` is its text, which nobody is shown again; it is left out of ``repr``."""

    token: str

    def __repr__(self) -> str:
        return f"NewToken(name={self.name!r}, scopes={self.scopes!r}, token=…)"


class Tokens(msgspec.Struct, frozen=True):
    tokens: list[TokenInfo]


class AppliedManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one manifest: ``created``, ``updated``, ``unchanged`` or ``removed``."""

    kind: str
    name: str
    change: str
    revision: int = 0


class ManifestFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a manifest; ``severity`` is ``error`` or ``warning``."""

    message: str
    code: str = ""
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    severity: str = "error"

    def text(self) -> str:
        """``file:line:column: severity[CODE]: message``, with the hint on a line of its own."""
        return Finding(**msgspec.structs.asdict(self)).text()


class Applied(msgspec.Struct, frozen=True):
    """The answer to an apply: all of it was stored."""

    applied: list[AppliedManifest]
    warnings: list[ManifestFinding] = []


class Manifest(msgspec.Struct, frozen=True):
    """A manifest as it is sent: relative paths in it are relative to ``base``."""

    file: str
    text: str
    base: str
