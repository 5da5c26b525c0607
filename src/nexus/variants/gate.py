"""The gate: environments that the platform builds centrally come only from a lock audited against a named snapshot.

Whoever builds an environment for runs, benchmarks or tests calls :func:`require` with the text of the lock, and installs
nothing when it raises. The record it returns names lock, snapshot, waivers and targets by hash, so that another process can
:func:`check` it without auditing again, and anyone can compute it again from the same inputs. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import msgspec

from nexus.kernel.clock import rfc3339
from nexus.kernel.errors import NotAudited
from nexus.variants import audit
from nexus.variants.audit import Lock, PinVerdict, Report
from nexus.variants.auditsnapshot import Snapshot
from nexus.variants.auditwaivers import Waiver

FORMAT = 1
_SHOWN = 5
_HINT = "see `nexus audit`; upgrade, waive with a date in waivers.yaml, or leave the package out"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was audited, against what, and the outcome. ``digest`` covers every other field.

    ``valid_until`` is the last day of the first waiver it rests on to expire; None when it rests on none.
    """

    format: int
    lock: str
    lock_sha256: str
    snapshot_sha256: str
    snapshot_date: str
    waivers_sha256: str
    targets_sha256: str
    audited_at: str
    ok: bool
    pins: int
    refused: tuple[str, ...]
    valid_until: date | None
    digest: str = ""


def require(
    lock: str | Lock,
    snapshot: Snapshot | None,
    now: datetime,
    *,
    waivers: Sequence[Waiver] = (),
    targets: Sequence[Mapping[str, str]] = audit.TARGETS,
    max_age: timedelta | None = None,
    missing: str = "there is no advisory snapshot",
) -> Record:
    """The record of an audit that let the lock pass.

    Raises NotAudited when there is no snapshot, it is older than *max_age*, a pin was not audited, or one is vulnerable.
    """
    held = Lock(name="lock", files={"requirements.txt": lock}) if isinstance(lock, str) else lock
    if snapshot is None:
        raise NotAudited(
            f"`{held.name}` cannot be audited: {missing}", hint="nothing is installed from a lock that was not audited"
        )
    if max_age is not None and now - snapshot.date > max_age:
        raise NotAudited(
            f"the advisories of {snapshot.manifest.date[:10]} are older than {max_age.days} days",
            hint="renew them with `nexus advisories update`",
        )
    made = record(held, snapshot, now, waivers=waivers, targets=targets)
    if not made.ok:
        raise NotAudited(f"`{held.name}` is not installed: {_told(made.refused)} (snapshot {snapshot.name})", hint=_HINT)
    return made


def record(
    lock: Lock,
    snapshot: Snapshot,
    now: datetime,
    *,
    waivers: Sequence[Waiver] = (),
    targets: Sequence[Mapping[str, str]] = audit.TARGETS,
) -> Record:
    """The record of auditing *lock*, whatever its outcome; the same inputs give the same record."""
    report = audit.audit([lock], snapshot, now=now, waivers=waivers, targets=targets)
    unsigned = Record(
        format=FORMAT, lock=lock.name, lock_sha256=lock_hash(lock), snapshot_sha256=snapshot.id,
        snapshot_date=snapshot.manifest.date,
        waivers_sha256=_hash([msgspec.structs.replace(item, line=0) for item in waivers]), targets_sha256=_hash(list(targets)),
        audited_at=rfc3339(now), ok=report.ok, pins=len(report.verdicts),
        refused=tuple(_refusal(item) for item in report.verdicts if item.status in (audit.VULNERABLE, audit.UNKNOWN)),
        valid_until=min((waiver.expires for waiver in _used(report)), default=None),
    )  # fmt: skip
    return msgspec.structs.replace(unsigned, digest=digest(unsigned))


def check(held: Record, lock: str | Lock, now: datetime, *, snapshot_sha256: str = "") -> None:
    """Returns when *held* is an unaltered record that lets this very lock pass on this day (and with this snapshot, if given).

    Raises NotAudited with the reason. It does not audit: :func:`record` computes the record again.
    """
    text = Lock(name=held.lock, files={"requirements.txt": lock}) if isinstance(lock, str) else lock
    reasons = (
        (held.format != FORMAT or digest(held) != held.digest, "the record was altered, or is of another version"),
        (held.lock_sha256 != lock_hash(text), "the lock is not the one that was audited"),
        (bool(snapshot_sha256) and held.snapshot_sha256 != snapshot_sha256, "the lock was audited against another snapshot"),
        (not held.ok, f"the audit refused it: {_told(held.refused)}"),
        (held.valid_until is not None and now.date() > held.valid_until, f"a waiver it rests on expired on {held.valid_until}"),
    )
    for refused, reason in reasons:
        if refused:
            raise NotAudited(f"`{held.lock}` is not installed: {reason}", hint="audit it again with `nexus audit --record FILE`")


def digest(held: Record) -> str:
    """SHA-256 of every field but the digest itself."""
    return _hash(msgspec.structs.replace(held, digest=""))


def lock_hash(lock: Lock) -> str:
    """SHA-256 of the texts of a lock's files; their names do not count, only their order by name."""
    return _hash([text for _, text in sorted(lock.files.items())])


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def _used(report: Report) -> Iterable[Waiver]:
    for item in report.verdicts:
        if item.waiver is not None:
            yield item.waiver
        for issue in item.issues:
            if issue.waiver is not None:
                yield issue.waiver


def _refusal(item: PinVerdict) -> str:
    spec = f"{item.name}=={item.version}" if item.version else item.reference or f"{item.file}:{item.line}"
    if item.status == audit.UNKNOWN:
        return f"{spec} was not audited ({item.reason})"
    names = ", ".join(issue.id for issue in item.issues if issue.counts and issue.waiver is None)
    fix = f"; {item.upgrade_to} is not affected" if item.upgrade_to else ""
    return f"{spec} is vulnerable ({names}{fix})"


def _told(refused: Sequence[str]) -> str:
    more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return "; ".join(refused[:_SHOWN]) + more
