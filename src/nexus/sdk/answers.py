"""Answers that are no success, as errors of the kernel's tree: the code the service gave is kept.

``latest`` answers ``{"error": {"code", "message", "hint"}}``, v1 a line of text; the status alone decides when neither helps.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nexus.kernel import errors
from nexus.sdk.model import ManifestFinding

_LONGEST_TEXT = 2000
_TEXT = re.compile(r"error\[(NX\d+)\]: (.*?)(?:\nhint: (.*))?", re.DOTALL)


class RefusedManifests(errors.InvalidTemplate):
    """Manifests the service refused; ``findings`` says what, file by file. Nothing was stored."""

    def __init__(self, message: str, *, hint: str = "", findings: tuple[ManifestFinding, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings

    def text(self) -> str:
        """The findings, one after the other, and the sum at the end."""
        return "\n".join([*(finding.text() for finding in self.findings), super().text()])


class _Error(msgspec.Struct):
    message: str
    code: str = ""
    hint: str = ""
    findings: list[ManifestFinding] = []


class _Body(msgspec.Struct):
    error: _Error


def error_of(status: int, body: bytes, retry_after_s: float | None = None) -> errors.NexusError:
    """The error an answer means."""
    said = _read(body)
    if said.findings:
        return RefusedManifests(said.message, hint=said.hint, findings=tuple(said.findings))
    kind = _LEAVES.get(said.code) or _branch(status)
    message = said.message or f"the service answered {status}"
    hint = _HOW_TO_LOGIN if status == 401 else said.hint  # the service speaks of headers, a user of this client has options
    if not said.message and status in (404, 405, 501):
        hint = "this may be no Nexus service: `--server` or NEXUS__SERVER names its address"
    extra: dict[str, Any] = {"retry_after_s": retry_after_s or 1.0} if issubclass(kind, errors.Busy) else {}
    error = kind(message, hint=hint, **extra)
    if said.code and said.code != kind.code:
        vars(error)["code"] = said.code  # a newer service knows leaves this client does not
    return error


def _read(body: bytes) -> _Error:
    try:
        return msgspec.json.decode(body, type=_Body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body[:_LONGEST_TEXT].decode("utf-8", "replace").strip()
    match = _TEXT.fullmatch(text)
    if match:
        return _Error(message=match[2], code=match[1], hint=match[3] or "")
    return _Error(message="" if text.startswith("<") else text)


def _branch(status: int) -> type[errors.NexusError]:
    if status in _BRANCHES:
        return _BRANCHES[status]
    return errors.InvalidInput if 400 <= status < 500 else errors.ServiceError


def _classes() -> list[type[errors.NexusError]]:
    return [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.NexusError) and value.code
    ]


_LEAVES = {kind.code: kind for kind in _classes()}
_BRANCHES = {kind.status: kind for kind in _classes() if kind.__bases__ == (errors.NexusError,)}
_HOW_TO_LOGIN = "give a token with --token or NEXUS__TOKEN; `nexus tokens create NAME --scope submit --scope read` makes one"
