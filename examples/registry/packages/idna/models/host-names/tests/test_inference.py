"""Tests of nexus-examples/host-names."""

from pathlib import Path

import idna


def test_one_input() -> None:
    """The encoded name decodes to the same name."""
    for name in (Path(__file__).parent / "names.txt").read_text(encoding="utf-8").split():
        assert idna.decode(idna.encode(name)) == name
