"""The process engine keeps the promises of the engine port, with real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.testing.suites.engine import EngineSuite
from tests.contracts.engine_subject import ProcessSubject


@pytest.fixture
async def subject(tmp_path: Path) -> AsyncIterator[ProcessSubject]:
    made = ProcessSubject(tmp_path)
    await made.start()
    yield made
    await made.close()


class TestProcessEngine(EngineSuite):
    """The suite, on processes."""
