"""The process engine keeps the promises of the engine port, with real processes; also without pidfds, and on uvloop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

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


class TestWithoutProcessDescriptors(EngineSuite):
    """The suite, where the system cannot wait for processes by descriptor (macOS): locks are polled, signals go to pids."""

    @pytest.fixture(autouse=True)
    def no_descriptors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.mark.parametrize("name", [name for name in dir(EngineSuite) if name.startswith("test_")])
def test_on_the_services_event_loop(tmp_path: Path, name: str) -> None:
    """The suite, on the event loop the service runs on."""

    async def run() -> None:
        made = ProcessSubject(tmp_path)
        await made.start()
        try:
            await getattr(EngineSuite(), name)(made)
        finally:
            await made.close()

    uvloop.run(run())
