"""The command line of an attempt: what is filled in, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nexus.runs.commands import render
from nexus.runs.configuration import Configuration, merge
from tests.unit.runs.test_configuration import template

URL = "http://127.0.0.1:1/payload?sig=a%2Fb%s&from=1"


def configured(*args: str) -> Configuration:
    return replace(merge(template(), None), command=("python", "my program.py", "100%s"), args=args)


def rendered(argument: str) -> str:
    return render(configured(argument), payload_url=URL, run_id="run-1")[-1]


def test_the_command_comes_first_and_stays_literal() -> None:
    """W23: words of the command keep their spaces and percent signs."""
    assert render(configured("a"), payload_url=URL, run_id="run-1") == ("python", "my program.py", "100%s", "a")


@pytest.mark.parametrize(
    ("argument", "result"),
    [
        ("--sas-uri=%s", f"--sas-uri={URL}"),
        ("--request-id=%s", "--request-id=run-1"),
        ("request-id:%s/100%%", "request-id:run-1/100%"),
        ("--request-id=%%s", "--request-id=%s"),
        ("--request-id=%%%s", "--request-id=%run-1"),
        ("--request-id=%s-%s", "--request-id=run-1-%s"),
        ("--request-id=%d%s", "--request-id=%drun-1"),
        ("--request-id", "--request-id"),
        ("--sas-uri=%s&request-id", f"--sas-uri={URL}&request-id"),
        ("--format=%s", "--format=%s"),
        ("--share=50%%", "--share=50%%"),
        ("", ""),
    ],
)
def test_only_the_two_known_arguments_are_filled_in(argument: str, result: str) -> None:
    """W23: the first `%s` of an argument that names one of the two is filled in, `%%` is `%` there, all else is literal."""
    assert rendered(argument) == result


@given(st.text().filter(lambda text: "sas-uri" not in text and "request-id" not in text))
def test_any_other_argument_comes_out_as_it_went_in(argument: str) -> None:
    """Byte for byte, whatever percent signs, quotes or spaces it holds."""
    assert rendered(argument) == argument


@given(st.text(alphabet="%sd x"), st.text(alphabet="%sd x"))
def test_what_is_filled_in_is_not_read_again(before: str, after: str) -> None:
    """A URL full of percent signs arrives whole, once, where the first `%s` stood."""
    result = rendered(f"{before}sas-uri=%s{after}")
    if "%s" not in before.replace("%%", ""):
        assert result.count(URL) == 1
