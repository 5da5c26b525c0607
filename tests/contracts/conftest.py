"""Fixtures that several contract tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts import wheel_index


@pytest.fixture
def local(tmp_path: Path) -> Iterator[wheel_index.Local]:
    with wheel_index.served(tmp_path) as running:
        yield running
