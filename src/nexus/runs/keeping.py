"""Decisions and refusals that every store makes in the same way, so that adapters differ in how they keep things only.

Called by the adapters of the ports and by their in-memory twins.
"""

from __future__ import annotations

from msgspec.structs import replace

from nexus.kernel.errors import (
    CancelledParent,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    RunNotFound,
    TreeLimit,
    UnknownParent,
)
from nexus.runs.model import Run
from nexus.runs.ports import StoredManifest, TreeLimits

_LONGEST_KEY = 1024
_LONGEST_PART = 255


def same_request(stored: Run, run: Run) -> Run:
    """The stored run when *run* is the same request again. Raises IdempotencyMismatch."""
    if stored.fingerprint != run.fingerprint:
        raise IdempotencyMismatch(
            f"the idempotency key `{run.idempotency_key}` was used for another request of `{run.algorithm}`: run `{stored.id}`",
            hint="use a new key for a new request, or send the first request again as it was",
        )
    return stored


def check_limits(depth: int, runs: int, limits: TreeLimits) -> None:
    """Raises TreeLimit when a tree with a run at *depth* and *runs* runs is too large."""
    if depth > limits.max_depth:
        raise TreeLimit(
            f"the run would be at depth {depth} of its tree; at most {limits.max_depth} is allowed",
            hint="does an algorithm spawn itself without an end?",
        )
    if runs > limits.max_runs:
        raise TreeLimit(
            f"the tree would have {runs} runs; at most {limits.max_runs} are allowed", hint="put more work into each child"
        )


def unknown_parent(run: Run) -> UnknownParent:
    assert run.parent is not None
    return UnknownParent(
        f"the parent `{run.parent.algorithm}/{run.parent.run_id}` does not exist",
        hint="name the algorithm and the request id of the run that spawns this one",
    )


def cancelled_parent(run: Run, ancestor: str) -> CancelledParent:
    assert run.parent is not None
    return CancelledParent(
        f"the run `{ancestor}`, parent or ancestor of this one, was cancelled: its tree takes no more children",
        hint="submit it without a parent if it is still wanted",
    )


def not_found(run_id: str, algorithm: str = "") -> RunNotFound:
    name = f"{algorithm}/{run_id}" if algorithm else run_id
    return RunNotFound(f"no run `{name}`", hint="`nexus runs list` shows the runs there are")


def unstorable(error: Exception) -> InvalidInput:
    """A text with lone surrogates, or a number beyond 64 bits: nothing an encoder of JSON would let through."""
    return InvalidInput(f"a value of the request cannot be stored: {error}")


def run_exists(run: Run) -> Conflict:
    return Conflict(f"a run `{run.id}` exists already")


def next_manifest(stored: StoredManifest | None, given: StoredManifest) -> StoredManifest:
    """What is stored when *given* is put on top of *stored*, the newest revision of its name.

    An equal body makes no new revision. Where it came from is not part of a revision: an operator's own file makes it
    trusted, and moves it when the file moved; what an untrusted caller sends again changes nothing.
    """
    if stored is None:
        return replace(given, revision=1, removed=False)
    if stored.body != given.body:
        return replace(given, revision=stored.revision + 1, removed=False)
    if given.trusted:
        return replace(stored, source=given.source, trusted=True, removed=False)
    return replace(stored, removed=False)


def token_exists(name: str) -> Conflict:
    return Conflict(f"a token named `{name}` exists", hint=f"choose another name, or revoke it with `nexus tokens revoke {name}`")


def no_token(name: str) -> NotFound:
    return NotFound(f"no token is named `{name}`", hint="`nexus tokens list` shows the names")


def unknown_cursor(cursor: str) -> InvalidInput:
    return InvalidInput(f"the cursor `{cursor}` is not the id of a run", hint="pass the last id of the page before")


def check_key(key: str) -> tuple[str, ...]:
    """The parts of an object's key. Raises InvalidInput for anything but a plain relative name."""
    parts = tuple(key.split("/"))
    for part in parts:
        if (
            part in ("", ".", "..")
            or part.startswith(".spool")
            or not part.isprintable()
            or len(part.encode("utf-8", "replace")) > _LONGEST_PART
        ):
            raise _bad_key(key)
    if "\\" in key or len(key) > _LONGEST_KEY:
        raise _bad_key(key)
    return parts


def _bad_key(key: str) -> InvalidInput:
    shown = key[:80].encode("unicode_escape").decode()
    return InvalidInput(f"`{shown}` is not a plain relative name", hint="parts are joined by `/`, none is empty, `.` or `..`")


def object_exists(key: str) -> Conflict:
    return Conflict(f"an object `{key}` exists already; it is written once", hint="what is stored is kept; use another name")


def no_object(key: str) -> NotFound:
    return NotFound(f"no object `{key}`")
