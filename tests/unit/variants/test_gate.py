"""The gate: what was not audited is not installed."""

from __future__ import annotations

from datetime import date, timedelta

import msgspec
import pytest

from nexus.kernel.errors import NotAudited
from nexus.variants import gate
from tests.unit.variants.auditing import NOW, advisory, lock, snapshot, waiver


def test_a_clean_lock_passes_with_a_record_of_lock_and_snapshot() -> None:
    """The record names the hash of the lock and of the snapshot, and its own digest."""
    held = snapshot(advisory())
    record = gate.require("idna==3.7\n", held, NOW)
    assert (record.ok, record.pins, record.snapshot_sha256) == (True, 1, held.id)
    assert record.digest == gate.digest(record)
    gate.check(record, "idna==3.7\n", NOW)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("idna==3.6\n", "PYSEC-2026-1; 3.7 is not affected"),
        ("idna>=3\n", "was not audited"),
        ("idna @ git+https://example.org/idna@" + "a" * 40 + "\n", "was not audited"),
        ("", "pins nothing"),
    ],
)
def test_what_the_audit_refuses_is_not_installed(text: str, why: str) -> None:
    """A vulnerable pin, a line without a version and an empty lock raise NotAudited with the reason."""
    with pytest.raises(NotAudited, match=why):
        gate.require(text, snapshot(advisory()), NOW)


def test_without_a_snapshot_nothing_is_installed() -> None:
    """No data is a refusal."""
    with pytest.raises(NotAudited, match="there is no advisory snapshot"):
        gate.require("idna==3.7\n", None, NOW)


def test_a_limit_on_age_refuses_old_advisories() -> None:
    """A caller may ask for fresh advisories."""
    gate.require("idna==3.7\n", snapshot(advisory()), NOW, max_age=timedelta(days=2))
    with pytest.raises(NotAudited, match="older than 2 days"):
        gate.require("idna==3.7\n", snapshot(advisory()), NOW + timedelta(days=9), max_age=timedelta(days=2))


def test_a_waived_lock_passes_until_the_waiver_expires() -> None:
    """The record is valid until the last day of the waiver it rests on."""
    record = gate.require("idna==3.6\n", snapshot(advisory()), NOW, waivers=[waiver(expires=date(2026, 11, 30))])
    assert record.valid_until == date(2026, 11, 30)
    gate.check(record, "idna==3.6\n", NOW)
    with pytest.raises(NotAudited, match="expired on 2026-11-30"):
        gate.check(record, "idna==3.6\n", NOW + timedelta(days=10))


def test_a_record_is_of_one_lock_and_one_snapshot() -> None:
    """Another lock, another snapshot, or a changed field is refused."""
    record = gate.require("idna==3.7\n", snapshot(advisory()), NOW)
    with pytest.raises(NotAudited, match="not the one that was audited"):
        gate.check(record, "idna==3.7\nrich==1.0\n", NOW)
    with pytest.raises(NotAudited, match="another snapshot"):
        gate.check(record, "idna==3.7\n", NOW, snapshot_sha256="0" * 64)
    with pytest.raises(NotAudited, match="altered"):
        gate.check(msgspec.structs.replace(record, pins=7), "idna==3.7\n", NOW)


def test_a_refusal_that_was_turned_into_a_pass_is_found() -> None:
    """Flipping the outcome breaks the digest; and who forges the digest too is found by computing the record again."""
    text, held = "idna==3.6\n", snapshot(advisory())
    refused = gate.record(lock(text), held, NOW)
    with pytest.raises(NotAudited, match="refused it"):
        gate.check(refused, text, NOW)
    flipped = msgspec.structs.replace(refused, ok=True, refused=())
    with pytest.raises(NotAudited, match="altered"):
        gate.check(flipped, text, NOW)
    forged = msgspec.structs.replace(flipped, digest=gate.digest(flipped))
    assert gate.record(lock(text), held, NOW) != forged


def test_the_same_inputs_give_the_same_record() -> None:
    """Anyone can compute a record again."""
    assert gate.record(lock("idna==3.7\n"), snapshot(advisory()), NOW) == gate.record(
        lock("idna==3.7\n"), snapshot(advisory()), NOW
    )
