"""Tests of nexus-examples/date-reader."""

from datetime import date
from pathlib import Path

from dateutil.parser import parse


def test_one_input() -> None:
    """Each date is read as the day it means."""
    lines = (Path(__file__).parent / "dates.txt").read_text().splitlines()
    assert {parse(line).date() for line in lines} == {date(2026, 11, 21)}
