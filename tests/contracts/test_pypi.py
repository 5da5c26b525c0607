"""The adapter of PyPI's own advisory field, against a server on loopback."""

from __future__ import annotations

import json

import pytest

from nexus.adapters import pypi
from nexus.kernel.errors import Unavailable
from tests.contracts.advisory_server import Answer, serving

ENTRY = {
    "id": "PYSEC-1",
    "aliases": ["CVE-1"],
    "details": "Bad.",
    "fixed_in": ["3.7", "odd!"],
    "link": "https://osv.dev/PYSEC-1",
    "withdrawn": None,
}


def test_the_field_of_each_release_becomes_a_snapshot_of_those_releases() -> None:
    """Each version is asked for apart, and the snapshot covers these versions and no others."""

    def answer(path: str, _: object) -> Answer:
        entries = [ENTRY] if path in ("/pypi/idna/3.5/json", "/pypi/idna/3.6/json") else []
        return 200, json.dumps({"info": {}, "vulnerabilities": entries}).encode()

    with serving(answer) as address:
        reading = pypi.fetch({"idna": {"3.5", "3.6", "3.7"}, "rich": {"14.0"}}, address)
    (advisory,) = reading.advisories
    assert (advisory.id, sorted(advisory.versions), advisory.fixes) == ("PYSEC-1", ["3.5", "3.6"], ("3.7",))
    assert reading.covers == {"idna==3.5", "idna==3.6", "idna==3.7", "rich==14.0"}


@pytest.mark.parametrize(
    "given", [(404, b""), (503, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"info": {}}'), (200, b'{"vulnerabilities": null}')]
)
def test_a_release_without_the_field_fails_the_whole(given: Answer) -> None:
    """A mirror without the page or the field is an error: nobody is told that nothing is known."""
    with serving(lambda path, _: given) as address, pytest.raises(Unavailable):
        pypi.fetch({"idna": {"3.6"}}, address)


def test_an_entry_without_an_id_is_a_finding() -> None:
    """An entry nobody can name is reported."""
    with serving(lambda path, _: (200, b'{"vulnerabilities": [{"id": 5}, 3]}')) as address:
        assert pypi.fetch({"idna": {"3.6"}}, address).failed == ("idna/3.6",)
