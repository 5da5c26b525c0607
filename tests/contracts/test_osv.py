"""The adapter of a live OSV service, against a server on loopback."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from nexus.adapters import advisories, osv
from nexus.kernel.errors import Unavailable
from tests.contracts.advisory_server import Answer, nobody, serving

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def vulnerability(identity: str, package: str = "idna") -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.7"}]}]
    return {
        "id": identity,
        "modified": "2020-01-01T00:00:00Z",
        "affected": [{"package": {"ecosystem": "PyPI", "name": package}, "ranges": ranges}],
    }


def test_all_pages_of_all_packages_become_a_snapshot_of_those_packages() -> None:
    """Pages are followed to the end; a package without a record is covered; the date is that of the question."""

    def answer(path: str, body: Any) -> Answer:
        assert path == "/v1/query"
        assert body["package"]["ecosystem"] == "PyPI"
        if body["package"]["name"] != "idna":
            return 200, b"{}"
        if "page_token" not in body:
            return 200, json.dumps({"vulns": [vulnerability("A-1")], "next_page_token": "two"}).encode()
        return 200, json.dumps({"vulns": [vulnerability("A-2")]}).encode()

    with serving(answer) as address:
        reading = osv.fetch(["idna", "rich"], address)
    assert sorted(item.id for item in reading.advisories) == ["A-1", "A-2"]
    assert reading.covers == {"idna", "rich"}
    manifest, _ = advisories.make(reading, now=NOW)
    assert manifest.date.startswith("2026-11-21")


@pytest.mark.parametrize("given", [(500, b""), (404, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"vulns": 5}'), (429, b"")])
def test_one_question_without_an_answer_fails_the_whole(given: Answer) -> None:
    """An error, a page that is no JSON, or JSON of another form: no snapshot is made of the rest."""
    with (
        serving(lambda path, body: (200, b"{}") if body["package"]["name"] == "rich" else given) as address,
        pytest.raises(Unavailable),
    ):
        osv.fetch(["idna", "rich"], address)


def test_endless_pages_end() -> None:
    """A service that always has one more page is given up."""
    with (
        serving(lambda path, body: (200, b'{"vulns": [], "next_page_token": "again"}')) as address,
        pytest.raises(Unavailable, match="pages"),
    ):
        osv.fetch(["idna"], address)


def test_nobody_at_the_address_is_a_clear_error() -> None:
    """A closed port is an error with a hint, not an empty snapshot."""
    with nobody() as address, pytest.raises(Unavailable, match="does not answer"):
        osv.fetch(["idna"], address)


def test_bad_records_of_a_service_are_findings() -> None:
    """A record that cannot be read is reported with its id."""
    with serving(lambda path, body: (200, json.dumps({"vulns": [{"id": "A-1", "affected": 3}]}).encode())) as address:
        reading = osv.fetch(["idna"], address)
    assert reading.failed == ("idna/A-1",)


def test_other_schemes_and_passwords_are_refused_and_hidden() -> None:
    """`file:` is no service, and an address is shown without its password."""
    with pytest.raises(Unavailable, match="no http or https"):
        osv.fetch(["idna"], "file:///etc")
    with pytest.raises(Unavailable) as caught:
        osv.fetch(["idna"], "http://user:secret@127.0.0.1:1")
    assert "secret" not in caught.value.text()
