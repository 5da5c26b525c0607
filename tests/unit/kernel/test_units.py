"""Quantities and durations at their edges."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nexus.kernel.units import cpu_millicores, format_duration, memory_bytes, parse_duration, parse_quantity, parse_span


@pytest.mark.parametrize("text", ["1e25", "1e30", "99999999E", "1e26Ki"[:4]])
def test_an_amount_beyond_any_machine_is_a_value_error(text: str) -> None:
    """However large the number, the answer is a sentence and no arithmetic failure."""
    for parse in (parse_quantity, cpu_millicores, memory_bytes):
        with pytest.raises(ValueError, match="larger than any machine"):
            parse(text)


@pytest.mark.parametrize("text", ["9e24", "1e24", "9.9e24"])
def test_the_largest_amounts_are_counted(text: str) -> None:
    """Up to there thousandths and bytes are exact."""
    assert cpu_millicores(text) == memory_bytes(text) * 1000


def test_digits_are_those_of_ascii() -> None:
    """Digits of other scripts are refused, as Kubernetes and Go refuse them."""
    for parse in (parse_quantity, parse_duration):
        with pytest.raises(ValueError, match="is not a"):
            parse("\u0663h" if parse is parse_duration else "\u0663")


@pytest.mark.parametrize(
    ("text", "length"),
    [("30d", timedelta(days=30)), ("1d12h", timedelta(hours=36)), ("2 d 4 h", timedelta(days=2, hours=4)),
     ("90s", timedelta(seconds=90)),
     ("0d", timedelta())],
)  # fmt: skip
def test_a_person_gives_days(text: str, length: timedelta) -> None:
    """Where no cluster reads along, days stand before a duration."""
    assert parse_span(text) == length


@pytest.mark.parametrize("seconds", [0.25, 12.3, 245, 3600, 12_000, 604_800, 187_200])
def test_a_length_that_is_shown_can_be_given(seconds: float) -> None:
    """What is printed for a length of time is read as that length."""
    assert parse_span(format_duration(seconds)).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", " ", "d", "soon", "-1d", "1.5d", "3h2d", "99999d9", "7", "\u0663d", "1d" + "1s" * 40])
def test_what_is_no_length_of_time_is_a_value_error(text: str) -> None:
    """The sentence has the value, and examples with days."""
    with pytest.raises(ValueError, match=r"is not a duration; examples: .*`30d`"):
        parse_span(text)


def test_a_length_beyond_all_calendars_is_a_value_error() -> None:
    """Days and hours that each can be, and together cannot."""
    with pytest.raises(ValueError, match="longer than this service counts"):
        parse_span(f"99999d{24 * 999_999_999}h")
