"""Fixtures that several contract tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts import wheel_index
from tests.unit.catalog.trees import VALID


@pytest.fixture
def local(tmp_path: Path) -> Iterator[wheel_index.Local]:
    with wheel_index.served(tmp_path) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The valid registry as a folder."""
    place = tmp_path / "registry"
    for path, text in VALID.items():
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return place
