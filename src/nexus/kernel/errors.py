"""The error tree of Nexus.

    NexusError
    ├── InvalidInput        the caller's data is wrong; says what, where, and what to do           400 · exit 2
    ├── Unauthenticated     no or unknown token                                                    401 · exit 1
    ├── Forbidden           a known caller may not do this                                         403 · exit 1
    ├── NotFound            no such thing                                                          404 · exit 1
    ├── Conflict            the thing is in a state that rules this out                            409 · exit 1
    ├── TooLarge            a limit on size is passed                                              413 · exit 2
    ├── Mismatch            a replay that is not the same request                                  422 · exit 2
    ├── Busy                try again later: a queue or a rate is full                             429 · exit 1
    ├── Unavailable         draining, or a part this needs does not answer                         503 · exit 1
    └── NoSpace             the disk is full                                                       507 · exit 1

Each leaf has a stable ``code`` (NX + number), a message that says what happened with values in backticks, and a ``hint``
with the next action. HTTP status and exit code belong to the branch: they are class attributes here, so that both tables
are total by construction. Every leaf has its row in ``docs/reference/errors.md``, which is generated from this module.
"""

from __future__ import annotations

from typing import ClassVar


class NexusError(Exception):
    """An error a person can act on. Never raised itself: raise a leaf."""

    code: ClassVar[str] = ""
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # what Python prints of an error nobody caught says it too

    def text(self) -> str:
        """``error[CODE]: message``, and the hint on a line of its own."""
        lines = f"error[{self.code}]: {self.message}"
        return f"{lines}\nhint: {self.hint}" if self.hint else lines


class InvalidInput(NexusError):
    """The caller's data is wrong."""

    code = "NX100"
    status = 400
    exit_code = 2


class Unauthenticated(NexusError):
    """No token where one is needed, or one nobody issued."""

    code = "NX110"
    status = 401


class Forbidden(NexusError):
    """A known caller may not do this."""

    code = "NX120"
    status = 403


class NotFound(NexusError):
    """No such thing."""

    code = "NX130"
    status = 404


class Conflict(NexusError):
    """The thing is in a state that rules this out."""

    code = "NX140"
    status = 409


class TooLarge(NexusError):
    """A limit on size is passed."""

    code = "NX150"
    status = 413
    exit_code = 2


class Mismatch(NexusError):
    """A replay that is not the same request."""

    code = "NX160"
    status = 422
    exit_code = 2


class Busy(NexusError):
    """A queue or a rate is full: try again after ``retry_after_s`` seconds."""

    code = "NX170"
    status = 429

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Unavailable(NexusError):
    """Draining, or a part this needs does not answer."""

    code = "NX180"
    status = 503


class NoSpace(NexusError):
    """The disk is full: nothing of the request was kept."""

    code = "NX190"
    status = 507


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class StageConflict(Conflict):
    """A run cannot make this move; terminal stages have none."""

    code = "NX201"


class RunNotFound(NotFound):
    """No run of this algorithm has this id."""

    code = "NX202"


class UnknownAlgorithm(InvalidInput):
    """No template of this name is registered."""

    code = "NX203"


class UnknownWorkgroup(InvalidInput):
    """A template or an override names a workgroup nobody registered."""

    code = "NX204"


class UnknownParent(InvalidInput):
    """The parent a child names does not exist."""

    code = "NX205"


class CancelledParent(InvalidInput):
    """The parent, or one of its ancestors, was cancelled: its tree takes no more children."""

    code = "NX206"


class TreeLimit(InvalidInput):
    """An execution tree is too deep or too large."""

    code = "NX207"


class IdempotencyMismatch(Mismatch):
    """The idempotency key was used before with another request."""

    code = "NX208"


class InvalidEnvelope(InvalidInput):
    """The body of a request is not what this route takes."""

    code = "NX209"


class InvalidTemplate(InvalidInput):
    """A manifest, or an override of one, has findings."""

    code = "NX210"


class QueueFull(Busy):
    """As many runs wait as this service keeps."""

    code = "NX211"


class PayloadTooLarge(TooLarge):
    """The body is larger than this service takes."""

    code = "NX213"


class AlreadyReported(Conflict):
    """The run had already ended when this report came; the report was recorded."""

    code = "NX214"


class SpawningOver(InvalidInput):
    """A run's own token asks for another run although the run has ended: nothing of it is left that could want one."""

    code = "NX215"


class TooManyResults(Conflict):
    """The run has stored as many results as one run may."""

    code = "NX216"


# ── doors ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class BadSignature(Forbidden):
    """A signed URL was altered, is not valid yet, or has expired."""

    code = "NX121"


class ForeignOrigin(Forbidden):
    """A browser page of another origin, or another host name, asked."""

    code = "NX122"


class MissingScope(Forbidden):
    """The token lacks the scope this needs."""

    code = "NX123"


class UnknownRoute(NotFound):
    """No route has this path."""

    code = "NX131"


class WrongMethod(InvalidInput):
    """The route exists, but not for this method."""

    code = "NX101"
    status = 405

    def __init__(self, message: str, *, hint: str = "", allow: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.allow = allow


class WrongMediaType(InvalidInput):
    """The body is not of the content type this route takes."""

    code = "NX102"
    status = 415


class Draining(Unavailable):
    """The service is being stopped and accepts nothing more; what it accepted goes on."""

    code = "NX181"


# ── service and data folder ───────────────────────────────────────────────────────────────────────────────────────────


class FolderInUse(Conflict):
    """Another service holds the data folder."""

    code = "NX301"


class FolderUnusable(Unavailable):
    """The data folder cannot be written, or belongs to a newer version."""

    code = "NX302"


class InvalidSetting(InvalidInput):
    """A setting has a value it cannot have."""

    code = "NX303"


class ServiceUnreachable(Unavailable):
    """No service answers at the address given."""

    code = "NX304"


class ServiceError(Unavailable):
    """The service answered with something this client cannot use."""

    code = "NX305"


class WaitTimeout(Unavailable):
    """The time given for a wait ran out; what was waited for goes on."""

    code = "NX306"


# ── registry ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class NotARegistry(InvalidInput):
    """The folder given is no registry."""

    code = "NX401"


class UnknownName(NotFound):
    """The registry has no package, model or owner of this name."""

    code = "NX402"


class RevisionUnreadable(InvalidInput):
    """Git does not know the revision, or the folder is no Git checkout."""

    code = "NX403"


class RegistryEditRefused(Conflict):
    """An edit of the registry would break it; nothing was written."""

    code = "NX404"


class UnknownVariant(InvalidInput):
    """The registry declares no variant of this name."""

    code = "NX405"


class ResolverUnavailable(Unavailable):
    """The resolver could not be run, or the package index did not answer."""

    code = "NX406"


class AdvisoriesUnusable(InvalidInput):
    """An advisory source cannot be read, or is not what its manifest says."""

    code = "NX407"


class NotAudited(Forbidden):
    """A lock was not audited against a named snapshot, or the audit refused it: it is not installed."""

    code = "NX408"


class MetadataUnavailable(Unavailable):
    """The metadata of a Python package could not be read."""

    code = "NX409"


class SbomUnavailable(Unavailable):
    """The library that writes CycloneDX documents is not installed."""

    code = "NX410"
