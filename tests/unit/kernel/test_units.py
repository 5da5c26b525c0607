"""Quantities and durations at their edges."""

from __future__ import annotations

import pytest

from nexus.kernel.units import cpu_millicores, memory_bytes, parse_duration, parse_quantity


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
