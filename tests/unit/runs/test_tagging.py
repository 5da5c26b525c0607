"""Tags after the fact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus.runs.tagging import Tagging
from tests.unit.runs.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(places=2)
    yield rig
    rig.close()


def test_a_new_tag_moves_no_end(rig: Rig) -> None:
    """A run that works was modified now; one that has ended is as old as before: logs and processes are kept by that."""
    working, ended = rig.begin(), rig.begin()
    rig.finish(ended)
    rig.wait(60.0)
    was = rig.run(ended)
    tagging = Tagging(rig.store, rig.clock)
    for run_id in (working, ended):
        rig.do(tagging.retag("demand", run_id, "monday"))
    assert (rig.run(working).tag, rig.run(working).last_modified) == ("monday", rig.clock.now())
    now = rig.run(ended)
    assert (now.tag, now.last_modified, now.revision) == ("monday", was.last_modified, was.revision + 1)
    rig.do(tagging.retag("demand", ended, "monday"))
    assert rig.run(ended) is now
