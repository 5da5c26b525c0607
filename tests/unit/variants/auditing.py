"""What the tests of audit, gate and SBOM share: small snapshots, locks and a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from nexus.variants import auditsnapshot
from nexus.variants.advisories import Advisory
from nexus.variants.audit import Lock
from nexus.variants.auditsnapshot import Snapshot, Source
from nexus.variants.auditwaivers import Waiver

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HIGH = (("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"),)  # 7.5
CRITICAL = (("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"),)  # 9.8


def advisory(
    identity: str = "PYSEC-2026-1", package: str = "idna", *, fixed: str = "3.7", introduced: str = "0",
    aliases: tuple[str, ...] = (), severity: tuple[tuple[str, str], ...] = HIGH, withdrawn: str = "", undecided: str = "",
) -> Advisory:  # fmt: skip
    """An advisory of one range; without *fixed* it is open-ended."""
    events = (("introduced", introduced), ("fixed", fixed)) if fixed else (("introduced", introduced),)
    return Advisory(
        id=identity, package=package, aliases=aliases, summary="Something bad.", severity=severity,
        ranges=() if undecided else (events,),
        modified="2026-11-20T00:00:00Z", withdrawn=withdrawn, undecided=undecided, url="https://example.org/advisory",
    )  # fmt: skip


def snapshot(*advisories: Advisory, covers: Sequence[str] | None = None, skipped: Sequence[str] = ()) -> Snapshot:
    """A snapshot of these advisories; complete unless *covers* is given."""
    held = advisories or (advisory(package="something-else"),)
    source = Source(name="test", kind="folder", records=len(held), sha256="0" * 64)
    manifest, index = auditsnapshot.build(held, [source], now=NOW, covers=covers, skipped=skipped)
    return auditsnapshot.open_snapshot(manifest, index, "test")


def lock(text: str, name: str = "ecosystem") -> Lock:
    """A lock of one file."""
    return Lock(name=name, files={f"requirements-{name}.txt": text})


def waiver(identity: str = "PYSEC-2026-1", package: str = "idna", expires: date = date(2026, 12, 31)) -> Waiver:
    """An accepted risk."""
    return Waiver(advisory=identity, package=package, reason="only trusted names", owner="@octocat", expires=expires)
