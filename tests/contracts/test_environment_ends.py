"""A build of a local environment that nobody waits for any more is ended: `uv`, what it started, and what it left."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from nexus.adapters.environments import Environments
from nexus.adapters.process import watch
from nexus.runs.ports import LaunchFailed
from tests.contracts.engine_subject import PATIENCE_S
from tests.contracts.test_environments import Bench, ask

_DETACHED = """
import os, time
if os.fork() == 0:
    os.setsid()
    open("{0}/detached", "w").write(str(os.getpid()))
    time.sleep(600)
"""
_HANGING = """#!/bin/sh
echo "$@" >> "{0}/calls"
if [ "$1" != venv ] || [ -e "{0}/go" ]; then exec "{1}" "$@"; fi
for folder in "$@"; do :; done
mkdir -p "$folder/bin" && echo half > "$folder/bin/python"
"{2}" -I -S "{0}/detached.py"
sleep 600 &
echo $! > "{0}/child"
echo $$ > "{0}/hanging"
wait
"""


class Hanging(Bench):
    """A bench whose `uv` hangs in the middle of a build, with a child and one that detached, until the file `go` is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        real = self.uv.read_text().split('exec "')[1].split('"')[0]
        (folder / "detached.py").write_text(_DETACHED.format(folder))
        self.uv.write_text(_HANGING.format(folder, real, sys.executable))

    def ready_to_build(self) -> Environments:
        """Environments that know the interpreter already."""
        environments = self.environments()
        environments._interpreters[".".join(map(str, sys.version_info[:2]))] = sys.executable
        return environments

    async def hangs(self) -> list[int]:
        """The processes of a build that has begun to hang."""
        names = ("hanging", "child", "detached")
        async with asyncio.timeout(PATIENCE_S):
            while not all((self.folder / name).exists() and (self.folder / name).read_text() for name in names):
                await asyncio.sleep(0.01)
        return [int((self.folder / name).read_text()) for name in names]

    def left(self) -> list[str]:
        """Folders of environments, half-built ones."""
        return [path.name for path in (self.folder / "environments").iterdir() if path.is_dir() and path.name != "wheels"]


@pytest.fixture
def hanging(tmp_path: Path) -> Hanging:
    return Hanging(tmp_path)


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that still run."""
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


async def gone(pids: list[int]) -> None:
    """Waits until the kernel has ended processes that were killed; none of them would end by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while alive(pids):
            await asyncio.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


async def ended(waiting: asyncio.Task[object]) -> None:
    """Has a waiter give up."""
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_build_nobody_waits_for_is_ended(hanging: Hanging) -> None:
    """When the last of those who wait gives up, `uv` and all it started are killed and nothing of the folder is left."""
    environments = hanging.ready_to_build()
    local = hanging.requirements("tool==1.0\n")
    first, second = (asyncio.create_task(environments.ready(local)) for _ in range(2))
    processes = await hanging.hangs()
    await ended(first)
    assert alive(processes) == processes, "another one still waited for it"
    await ended(second)
    await gone(processes)
    assert hanging.left() == []


async def test_a_build_that_was_ended_is_begun_afresh(hanging: Hanging) -> None:
    """The next request for the same environment builds it, also one that comes while the ended build is cleared away."""
    environments = hanging.ready_to_build()
    local = hanging.requirements("tool==1.0\n")
    first = asyncio.create_task(environments.ready(local))
    await hanging.hangs()
    (hanging.folder / "go").touch()
    first.cancel()
    await asyncio.sleep(0)  # it has let go of the build, which has not ended yet
    made = await environments.ready(local)
    assert ask(made, "import tool; print(tool.version)") == "1.0"
    assert hanging.builds() == 2
    assert first.cancelled()


async def test_a_stop_ends_builds_with_all_they_started(hanging: Hanging) -> None:
    """A service that stops leaves no `uv` behind, and no folder a later start could trust."""
    environments = hanging.ready_to_build()
    waiting = asyncio.create_task(environments.ready(hanging.requirements("tool==1.0\n")))
    processes = await hanging.hangs()
    await environments.stop()
    await gone(processes)
    assert hanging.left() == []
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_build_that_failed_leaves_no_folder(hanging: Hanging) -> None:
    """What could not be installed leaves nothing half-built behind."""
    (hanging.folder / "go").touch()
    with pytest.raises(Exception, match="could not be built"):
        await hanging.ready_to_build().ready(hanging.requirements("nobody-has-this==1.0\n"))
    assert hanging.left() == []


async def test_a_finished_environment_is_on_the_disk_before_it_is_trusted(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files reach the disk before the mark that makes it usable: a power cut leaves none that is trusted and torn."""
    (hanging.folder / "go").touch()
    marks: list[bool] = []
    sync = os.sync

    def noted() -> None:
        sync()
        marks.append(any((hanging.folder / "environments").glob("*/.complete")))

    monkeypatch.setattr(os, "sync", noted)
    assert await hanging.ready_to_build().ready(hanging.requirements("tool==1.0\n")) is not None
    assert marks == [False]


async def test_what_a_killed_service_left_building_is_ended_by_the_next(hanging: Hanging) -> None:
    """Its `uv`, with all that started, does not keep the next service from building, nor does its half-built folder stay."""
    killed = hanging.ready_to_build()
    local = hanging.requirements("tool==1.0\n")
    lost = asyncio.create_task(killed.ready(local))
    processes = await hanging.hangs()
    (hanging.folder / "go").touch()
    following = hanging.ready_to_build()
    await following.start()
    made = await following.ready(local)
    assert alive(processes) == []
    assert ask(made, "import tool; print(tool.version)") == "1.0"
    with pytest.raises(LaunchFailed):
        await lost
    await following.stop()


async def test_no_uv_of_ours_is_taken_for_one_that_was_left(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the question for an interpreter is asked before what a killed service left has been ended: it would end with it."""
    (hanging.folder / "go").touch()
    looked, go_on = threading.Event(), threading.Event()
    end_marked = watch.end_marked

    def slowly(*marks: str) -> None:
        looked.set()
        assert go_on.wait(PATIENCE_S)
        end_marked(*marks)

    monkeypatch.setattr(watch, "end_marked", slowly)
    environments = hanging.environments()
    await environments.start()
    assert await asyncio.to_thread(looked.wait, PATIENCE_S)
    asked = asyncio.create_task(environments.ready(hanging.requirements("tool==1.0\n")))
    await asyncio.wait([asked], timeout=0.3)
    assert not hanging.calls.exists()
    go_on.set()
    assert ask(await asked, "import tool; print(tool.version)") == "1.0"
    await environments.stop()


@pytest.mark.parametrize("known", [False, True])
async def test_a_uv_that_was_killed_may_fare_better_another_time(hanging: Hanging, known: bool) -> None:
    """What ends `uv` from outside (the kernel short of memory, an operator) says nothing of the environment: it is tried again."""
    hanging.uv.write_text("#!/bin/sh\nkill -9 $$\n")
    environments = hanging.ready_to_build() if known else hanging.environments()
    with pytest.raises(LaunchFailed) as caught:
        await environments.ready(hanging.requirements("tool==1.0\n"))
    assert not caught.value.permanent
    await environments.stop()


async def test_a_start_removes_what_is_half_built_and_nothing_else(hanging: Hanging) -> None:
    """A folder without its mark of completion goes, unless someone still builds it; finished ones and wheels stay."""
    (hanging.folder / "go").touch()
    made = await hanging.ready_to_build().ready(hanging.requirements("tool==1.0\n"))
    assert made is not None
    environments = hanging.folder / "environments"
    for name in ("half", "held", "wheels"):
        (environments / name / "bin").mkdir(parents=True)
    with (environments / "held.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        following = hanging.ready_to_build()
        await following.start()
        await following.stop()
    assert sorted(hanging.left()) == sorted(["held", made.folder.name])
    assert (environments / "wheels").exists()


async def test_what_hides_from_a_build_keeps_no_stop_waiting(hanging: Hanging) -> None:
    """A process that detached, and took the marks off, may live on with the build's output open: the build ends without it."""
    script = hanging.uv.read_text().replace("sleep 600 &", "env -i setsid sleep 600 &\nsleep 0.2")
    hanging.uv.write_text(script)
    waiting = asyncio.create_task(hanging.ready_to_build().ready(hanging.requirements("tool==1.0\n")))
    processes = await hanging.hangs()
    await ended(waiting)
    assert hanging.left() == []
    assert len(alive(processes)) == 1, "nothing hid"
    for pid in alive(processes):
        os.kill(pid, signal.SIGKILL)
