"""The pure parts of the client: retries, JSON, names."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.kernel.errors import InvalidInput
from nexus.sdk.encoding import from_json, parameters_body, to_json
from nexus.sdk.model import NewToken, RunRef
from nexus.sdk.retry import delay_s, retry_after_s
from nexus.sdk.transport import Transport


@given(st.integers(1, 200), st.floats(0, 1), st.none() | st.floats(0, 100))
def test_delays_grow_are_bounded_and_keep_what_was_asked(attempt: int, chance: float, asked: float | None) -> None:
    """A delay is at least what the service asked for, else between half of and all of its step, at most 5 s."""
    step = min(5.0, 0.1 * 2.0 ** (attempt - 1))
    delay = delay_s(attempt, chance, asked)
    assert delay >= (asked or 0)
    assert delay == asked or step / 2 <= delay <= step


def test_only_seconds_count_as_retry_after() -> None:
    """A date or nonsense is no pause."""
    assert retry_after_s("2") == 2
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") is None
    assert retry_after_s(None) is None


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.none()))
def test_json_is_exact(value: dict[str, object]) -> None:
    """Every number and text comes back as it was, integers of any size included."""
    assert from_json(to_json(value, "it"), dict[str, object], "it") == value


@pytest.mark.parametrize(
    "bad", [b"[1]", b"", b'{"a": 1', b'{"a": 1} {"b": 2}', b'{}, "tag": "x"', b"nonsense", [1], "text", {"x": float("inf")}]
)
def test_parameters_are_one_object(bad: object) -> None:
    """Anything but one JSON object is refused before it is sent, also what would smuggle in fields of the envelope."""
    with pytest.raises(InvalidInput):
        parameters_body(bad)


def test_files_are_looked_at_before_they_are_sent(tmp_path: Path) -> None:
    """A payload file must be there and hold one object; it is handed on as a path."""
    for name, text in (("empty", ""), ("list", "[]"), ("broken", "{")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidInput, match=name):
            parameters_body(tmp_path / name)
    with pytest.raises(InvalidInput, match="cannot be read"):
        parameters_body(tmp_path / "missing")
    (tmp_path / "good").write_text('{"n": 1}')
    assert parameters_body(tmp_path / "good") == tmp_path / "good"


def test_arrays_of_other_libraries_are_taken() -> None:
    """What has `tolist` (NumPy) or `model_dump` (pydantic) needs no conversion by hand."""

    class Array:
        def tolist(self) -> list[int]:
            return [1, 2]

    class Model:
        def model_dump(self) -> dict[str, object]:
            return {"inner": Array()}

    assert parameters_body({"a": Array(), "m": Model()}) == b'{"a":[1,2],"m":{"inner":[1,2]}}'


def test_a_run_is_named_by_algorithm_and_id() -> None:
    """`algorithm/id` is read and written; an algorithm may itself hold a slash."""
    assert RunRef.parse("a/b/1") == RunRef("a/b", "1")
    assert str(RunRef("a", "1")) == "a/1"
    for bad in ("a", "/1", "a/"):
        with pytest.raises(InvalidInput):
            RunRef.parse(bad)


def test_a_new_token_is_not_shown_by_accident() -> None:
    """Whoever prints or logs the answer does not print the secret."""
    made = NewToken(name="ci", scopes=["read"], created_at=datetime(2026, 11, 21, tzinfo=UTC), token="nx_secret")
    assert "nx_secret" not in f"{made} {made!r}"
    assert made.token == "nx_secret"


@pytest.mark.parametrize(
    "server",
    [
        "http://127.0.0.1:80,", "http://127.0.0.1:99999", "http://127.0.0.1:0", "http://[::1", "http://a b", "http://a\n", "ftp://a",
        "a:80", "", "http://", "http://a?b", "http://a#b", "http://user:MARKER@a:80",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused_in_words(server: str) -> None:
    """Whatever stands in NEXUS__SERVER, the answer is a sentence, and a password in it is not printed."""
    with pytest.raises(InvalidInput, match="is not the address of a service") as refused:
        Transport(server, "", 1.0)
    assert "MARKER" not in refused.value.message


@pytest.mark.parametrize("server", ["http://127.0.0.1:8080", "https://nexus.example.org/prefix/", "http://[::1]:80"])
def test_addresses_are_taken(server: str) -> None:
    """A port, a path and an IPv6 address are fine."""
    assert Transport(server, "", 1.0).server == server.rstrip("/")
