"""The life of a service: it never goes on without one of its loops, and reads what it is started with in one go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nexus.app.roles import Service, manifests_in
from nexus.kernel.errors import InvalidTemplate

GOOD = """\
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: {name}}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: work
"""


def service(**loops: Any) -> Service:
    made = Service(None, None, [])  # type: ignore[arg-type]
    made._dispatching, made._supervising = loops["dispatching"], loops["supervising"]
    return made


async def forever() -> None:
    await asyncio.Event().wait()


async def broken() -> None:
    raise RuntimeError("a bug")


async def over() -> None:
    return


@pytest.mark.parametrize(("ends", "said"), [(broken, "a bug"), (over, "supervisor ended by itself")])
async def test_a_service_does_not_outlive_its_loops(ends: Any, said: str) -> None:
    """A loop that ends, with an error or without one, ends the service with an error: no shell of it answers on."""
    going = asyncio.create_task(forever(), name="dispatcher")
    made = service(dispatching=going, supervising=asyncio.create_task(ends(), name="supervisor"))
    with pytest.raises(RuntimeError, match=said):
        await made.until_stopped(asyncio.Event())
    going.cancel()


async def test_a_service_that_is_told_to_stop_ends_in_peace() -> None:
    """The loops go on until they are stopped in their order."""
    loops = [asyncio.create_task(forever()) for _ in range(2)]
    stop = asyncio.Event()
    stop.set()
    await service(dispatching=loops[0], supervising=loops[1]).until_stopped(stop)
    assert not any(loop.done() for loop in loops)
    for loop in loops:
        loop.cancel()


def test_every_finding_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    """Two files are wrong in different ways: the refusal names both, with line and column."""
    (tmp_path / "a.yaml").write_text(GOOD.format(name="a").replace("command: work", "command: 'work"))
    (tmp_path / "b.yaml").write_text(GOOD.format(name="b").replace("command", "comand"))
    (tmp_path / "c.yaml").write_text(GOOD.format(name="c"))
    with pytest.raises(InvalidTemplate) as caught:
        manifests_in((str(tmp_path),))
    assert "a.yaml:" in caught.value.message
    assert "b.yaml:" in caught.value.message
    assert "c.yaml" not in caught.value.message


def test_other_files_of_a_folder_are_left_alone(tmp_path: Path) -> None:
    """Sub-folders are read; YAML that is no manifest, and environments, are not."""
    deep = tmp_path / "team" / "more"
    deep.mkdir(parents=True)
    (deep / "a.yaml").write_text(GOOD.format(name="a"))
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "x.yaml").write_text(GOOD.format(name="x"))
    manifests, findings = manifests_in((str(tmp_path),))
    assert ([manifest.name for manifest in manifests], findings) == (["a"], [])


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A service that silently ran without its algorithms would be worse."""
    with pytest.raises(InvalidTemplate, match="does not exist"):
        manifests_in((str(tmp_path / "nope"),))


def test_a_mistyped_version_is_judged_and_not_passed_over(tmp_path: Path) -> None:
    """A file of a folder that means to be a manifest by its kind is refused at the start as it is by `nexus apply`."""
    (tmp_path / "a.yaml").write_text(GOOD.format(name="a").replace("science.sneaksanddata.com", "science.sneaksandata.com"))
    with pytest.raises(InvalidTemplate, match=r"a\.yaml"):
        manifests_in((str(tmp_path),))


def test_a_project_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """A folder without `pyproject.toml` is told with file, line and field, before any run meets it."""
    text = GOOD.format(name="a").replace("{name: a}", "{name: a, annotations: {local.nexus/project: solver}}")
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "solver").mkdir()
    with pytest.raises(InvalidTemplate) as caught:
        manifests_in((str(tmp_path),))
    assert "a.yaml:3:" in caught.value.message
    assert "`local.nexus/project`" in caught.value.message
    assert "no `pyproject.toml`" in caught.value.message
