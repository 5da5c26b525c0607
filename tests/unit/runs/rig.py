"""The service simulated whole (`nexus.testing.simulator`), with what tests of single parts need beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from nexus.runs.model import Run
from nexus.runs.ports import Launch
from nexus.runs.templates import read_manifests
from nexus.testing.simulator import Simulation

T = TypeVar("T")

TEMPLATE = """
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: work
  errorHandlingBehaviour: {{transientExitCodes: [75], fatalExitCodes: [134]}}
  {more}
"""


class Rig(Simulation):
    """A simulation in which single awaits can be made and manifests applied."""

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What *work* gives."""
        return self.loop.run_until_complete(work)

    def apply(self, name: str = "demand", annotations: str = "", more: str = "", *, prune: bool = False, also: str = "") -> None:
        """Registers a template."""
        text = TEMPLATE.format(name=name, annotations=annotations, more=more) + also
        manifests, findings = read_manifests(text, "rig.yaml", base="/work")
        assert not [finding for finding in findings if finding.severity == "error"], findings
        self.do(self.life.algorithms.apply(manifests, trusted=True, prune=prune))

    def begin(self, parent: str | None = None, **request: Any) -> str:
        """The id of a run that was accepted; what follows from that has happened."""
        run_id = self.submit(parent, **request)
        self.settle()
        assert ("submit", run_id) in self.acknowledged
        return run_id

    def finish(self, run_id: str, code: int = 0) -> None:
        """Ends the newest attempt of a run, and lets the consequences be."""
        self.life.engine.finish(run_id, code=code)
        self.settle()

    def at_work(self) -> list[str]:
        return [launch.run_id for launch in self.alive()]

    def starts(self, run_id: str) -> int:
        return sum(launch.run_id == run_id for launch in self.machine.launched)

    def again(self) -> None:
        """The service dies and starts again."""
        self.crash()
        self.start()
        self.carry_on(100)


class HeldBack:
    """Stands in for an engine's ``create``: reached, then held back until the test lets it go on."""

    def __init__(self, rig: Rig) -> None:
        self._create = rig.life.engine.create
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        rig.life.engine.create = self  # type: ignore[method-assign, assignment]

    async def __call__(self, launch: Launch) -> str:
        self.reached.set()
        await self.go_on.wait()
        return await self._create(launch)


def stages(runs: list[Run]) -> list[str]:
    return [run.stage.value for run in runs]
