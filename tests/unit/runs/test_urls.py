"""Signed URLs and run tokens cannot be forged, stretched, moved or confused; results are signed only where they are ours."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.kernel.clock import EPOCH
from nexus.kernel.errors import BadSignature
from nexus.runs import urls
from nexus.runs.results import object_key
from nexus.runs.urls import Signer
from tests.unit.runs.test_lifecycle import NOW, run


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self):
        return self.at

    def monotonic(self) -> float:
        return (self.at - EPOCH).total_seconds()


KEY = b"k" * 32
PATH = urls.payload_path("a b", "01a1fe58-842d-7001-a1d7-411db6405cc0")


def query(signer: Signer, valid_for: timedelta = timedelta(hours=1)) -> dict[str, str]:
    return dict(parse_qsl(signer.sign("GET", PATH, valid_for)))


def test_a_fresh_url_works_until_it_expires() -> None:
    """Valid from now to the second before its end."""
    clock = Clock()
    signer = Signer(KEY, clock)
    made = query(signer)
    signer.verify("GET", PATH, made)
    clock.at += timedelta(minutes=59, seconds=59)
    signer.verify("GET", PATH, made)
    clock.at += timedelta(seconds=1)
    with pytest.raises(BadSignature, match="expired"):
        signer.verify("GET", PATH, made)


def test_not_before_is_checked() -> None:
    """A URL signed by a clock that is ahead is refused until then (weakness 26)."""
    clock = Clock()
    made = query(Signer(KEY, clock))
    clock.at -= timedelta(minutes=1)
    with pytest.raises(BadSignature, match="not valid yet"):
        Signer(KEY, clock).verify("GET", PATH, made)


@pytest.mark.parametrize("name", ["from", "to", "sig"])
def test_any_change_of_the_query_is_refused(name: str) -> None:
    """Each part of the query is covered by the signature."""
    signer = Signer(KEY, Clock())
    made = query(signer)
    changed = {**made, name: made[name][:-1] + ("0" if made[name][-1] != "0" else "1")}
    with pytest.raises(BadSignature, match="wrong"):
        signer.verify("GET", PATH, changed)
    with pytest.raises(BadSignature, match="wrong"):
        signer.verify("GET", PATH, {key: value for key, value in made.items() if key != name})


def test_a_url_is_good_for_one_method_and_one_path() -> None:
    """What may be read may not be written, nor may another run be read."""
    signer = Signer(KEY, Clock())
    made = query(signer)
    for method, path in (("PUT", PATH), ("GET", PATH + "x"), ("GET", PATH.upper())):
        with pytest.raises(BadSignature):
            signer.verify(method, path, made)
    with pytest.raises(BadSignature):
        Signer(b"o" * 32, Clock()).verify("GET", PATH, made)


@given(st.text(), st.text(), st.text(), st.text())
def test_fields_are_delimited(method: str, path: str, start: str, end: str) -> None:
    """Moving characters between fields never keeps a signature (weakness 26: the reference does not delimit)."""
    signer = Signer(KEY, Clock())
    original = signer._mac("url", method, path, start, end)
    assert signer._mac("url", method + path, "", start, end) != original or path == ""
    assert signer._mac("url", method, path + start, "", end) != original or start == ""


@given(st.text(max_size=120))
def test_no_text_is_a_run_token_by_chance(text: str) -> None:
    """Any text that the service did not make names no run, and never raises."""
    assert Signer(KEY, Clock()).run_of(text) is None
    assert Signer(KEY, Clock()).run_of(urls.RUN_TOKEN_PREFIX + text) is None


def test_a_run_token_names_its_run() -> None:
    """A token made for a run gives that run back, under this key only."""
    signer = Signer(KEY, Clock())
    token = signer.run_token(run().id)
    assert signer.run_of(token) == run().id
    assert Signer(b"o" * 32, Clock()).run_of(token) is None


ROOT = "/data/objects"
OWN = f"results/{run().id}/out.json"


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        (f"nexus:{OWN}", OWN),
        (f"{ROOT}/{OWN}", OWN),
        (f"file://{ROOT}/{OWN}", OWN),
        ("nexus:results/another/out.json", None),
        (f"nexus:results/{run().id}/../another/out.json", None),
        (f"{ROOT}/results/{run().id}/../../keys/signing.key", None),
        (f"file://{ROOT}/results/{run().id}/%2e%2e/%2e%2e/keys", None),
        ("/etc/passwd", None),
        ("s3://bucket/key", None),
        ("https://example.org/x", None),
        ("relative/path", None),
        ("", None),
    ],
)
def test_only_results_in_the_runs_own_folder_are_opened(uri: str, key: str | None) -> None:
    """A result URI that points anywhere else is handed back verbatim, never opened."""
    assert object_key(run(result_uri=uri), ROOT) == key
