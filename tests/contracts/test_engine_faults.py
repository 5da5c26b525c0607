"""What the process engine does when algorithms misbehave and when parts of it are killed. Real processes, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.adapters.process import folders, watch
from nexus.runs.model import ExitKind
from nexus.runs.ports import Absent, Alive, Ended, LaunchFailed
from tests.contracts.engine_subject import LOG_LIMIT_BYTES, PATIENCE_S, ProcessSubject, python, sh

linux = pytest.mark.skipif(sys.platform != "linux", reason="the memory watch and sub-reaper need Linux")


@pytest.fixture
async def subject(tmp_path: Path) -> AsyncIterator[ProcessSubject]:
    made = ProcessSubject(tmp_path)
    await made.start()
    yield made
    await made.close()


def launcher_pid(subject: ProcessSubject, run_id: str) -> int:
    lock = folders.read_record(str(subject.folder / "engine" / "attempts" / run_id / "1"), folders.LOCK)
    assert lock is not None
    return int(str(lock["pid"]))


async def until_gone(subject: ProcessSubject, run_id: str) -> None:
    """Waits until no process of the run is left."""
    async with asyncio.timeout(PATIENCE_S):
        while subject.processes(run_id):
            await asyncio.sleep(0.01)


# ── algorithms ────────────────────────────────────────────────────────────────────────────────────────────────────────


@linux
async def test_what_a_command_leaves_behind_ends_with_it(subject: ProcessSubject) -> None:
    """A command that ends while a daemon it started lives on takes the daemon with it, and keeps its own exit code."""
    daemon = """if True:
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        os.wait()
        os._exit(5)
    """
    launch = subject.launch_argv(python(daemon))
    await subject.engine.create(launch)
    assert (await subject.ended(launch.run_id)).exit.code == 5
    assert subject.processes(launch.run_id) == 0


async def test_a_bad_end_keeps_its_last_words(subject: ProcessSubject) -> None:
    """What a failing command last wrote to stderr is in its exit, from a whole line on; a good end keeps nothing."""
    script = "i=0; while [ $i -lt 400 ]; do echo noise number $i >&2; i=$((i+1)); done; echo 'no module called x' >&2; exit 3"
    launch = subject.launch_argv(sh(script))
    await subject.engine.create(launch)
    exit_ = (await subject.ended(launch.run_id)).exit
    assert exit_.code == 3
    heading, first, *_, last = exit_.detail.split("\n")
    assert (heading, last) == ("The end of its stderr:", "no module called x")
    assert first.startswith("noise number ")
    assert len(exit_.detail) < 2200
    quiet = subject.launch_argv(sh("echo careful >&2"))
    await subject.engine.create(quiet)
    assert (await subject.ended(quiet.run_id)).exit.detail == ""


async def test_a_signal_from_elsewhere_is_told(subject: ProcessSubject) -> None:
    """A command killed by a signal nobody here sent ends as SIGNALLED, with its number."""
    launch = subject.launch_argv(sh("kill -SEGV $$"))
    await subject.engine.create(launch)
    end = (await subject.ended(launch.run_id)).exit
    assert (end.kind, end.signal, end.code) == (ExitKind.SIGNALLED, signal.SIGSEGV, None)


async def test_a_large_flood_stays_bounded_on_disk(subject: ProcessSubject) -> None:
    """A hundred megabytes of output leave the head and the tail on disk, no more, and both are whole."""
    code = "import os\nos.write(1, b'begin')\nfor _ in range(100): os.write(1, b'y' * (1 << 20))\nos.write(1, b'end')"
    launch = subject.launch_argv(python(code))
    await subject.engine.create(launch)
    end = await subject.ended(launch.run_id)
    folder = subject.folder / "engine" / "attempts" / launch.run_id / "1"
    text = (folder / "stdout").read_bytes()
    assert end.exit.code == 0
    assert text.startswith(b"begin")
    assert text.endswith(b"end")
    assert len(text) <= LOG_LIMIT_BYTES + 100
    assert sorted(path.name for path in folder.iterdir()) == ["exit", "lock", "scratch", "stderr", "stdout"]


async def test_output_of_both_streams_is_read_while_it_runs(subject: ProcessSubject) -> None:
    """What an algorithm has printed can be read before it ends."""
    launch = subject.launch_argv(sh('echo out; echo err >&2; echo ready >> "$NEXUS_TEST_READY"; exec sleep 600'), ready=1)
    await subject.engine.create(launch)
    await subject.begun(launch.run_id)
    async with asyncio.timeout(PATIENCE_S):
        while not await subject.engine.log(launch.run_id, 1, "stderr"):
            await asyncio.sleep(0.01)
    assert await subject.engine.log(launch.run_id, 1, "stdout") == b"out\n"


@linux
async def test_memory_of_all_descendants_counts(subject: ProcessSubject) -> None:
    """Two children that each stay below the memory limit end the attempt when together they pass it."""
    child = "import time; held = b'x' * (48 << 20); time.sleep(600)"
    code = f"""if True:
        import subprocess, sys, time
        for _ in range(2):
            subprocess.Popen([sys.executable, "-I", "-S", "-c", {child!r}])
        time.sleep(600)
    """
    launch = subject.launch_argv(python(code), memory_bytes=80 << 20)
    await subject.engine.create(launch)
    end = (await subject.ended(launch.run_id)).exit
    assert end.kind is ExitKind.OUT_OF_MEMORY
    assert end.peak_memory_bytes is not None
    assert end.peak_memory_bytes > 80 << 20
    assert subject.processes(launch.run_id) == 0


async def test_the_environment_is_exact(tmp_path: Path) -> None:
    """The process gets its own variables, the short list and the marker, and nothing else of the service's environment."""
    variables = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SECRET": "x", "PYTHONPATH": "/nowhere"}
    subject = ProcessSubject(tmp_path, variables=variables)
    await subject.start()
    launch = subject.launch_argv(("env",), cpu_millicores=1500, environment={"NEXUS__ALGORITHM_NAME": "a b"})
    await subject.engine.create(launch)
    await subject.ended(launch.run_id)
    text = (await subject.engine.log(launch.run_id, 1, "stdout")).decode()
    got = dict(line.split("=", 1) for line in text.splitlines())
    scratch = str((tmp_path / "engine" / "attempts" / launch.run_id / "1" / "scratch").resolve())
    expected = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": scratch, "OMP_NUM_THREADS": "2"}
    assert got == {**expected, **launch.environment, watch.MARKER: f"{launch.run_id}.1"}
    await subject.close()


async def test_the_process_starts_clean(subject: ProcessSubject) -> None:
    """It has a session of its own, nothing on stdin, only its three descriptors, default signals, and its scratch folder."""
    code = (
        "import json, os, signal\n"
        "ignored = [int(n) for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN]\n"
        "print(json.dumps([os.getsid(0) == os.getpid(), os.read(0, 1).hex(), sorted(map(int, os.listdir('/proc/self/fd')))[:-1],\n"
        "    ignored, os.getcwd() == os.path.realpath(os.environ['HOME']), len(signal.pthread_sigmask(signal.SIG_BLOCK, []))]))"
    )
    launch = subject.launch_argv((sys.executable, "-I", "-S", "-c", code))
    await subject.engine.create(launch)
    assert (await subject.ended(launch.run_id)).exit.code == 0
    own_session, stdin, descriptors, ignored, at_home, blocked = json.loads(await subject.engine.log(launch.run_id, 1, "stdout"))
    assert own_session
    assert at_home
    assert (stdin, descriptors, blocked) == ("", [0, 1, 2], 0)
    assert set(ignored) <= {signal.SIGPIPE, signal.SIGXFSZ}  # these two Python itself ignores


async def test_what_cannot_be_executed_is_a_launch_failure(subject: ProcessSubject, tmp_path: Path) -> None:
    """A file the system refuses to execute ends as LAUNCH_FAILED with the system's words; one without permission is refused."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    launch = subject.launch_argv((str(broken),))
    await subject.engine.create(launch)
    end = (await subject.ended(launch.run_id)).exit
    assert end.kind is ExitKind.LAUNCH_FAILED
    assert "format" in end.detail
    broken.chmod(0o644)
    with pytest.raises(LaunchFailed, match="not executable") as caught:
        await subject.engine.create(subject.launch_argv((str(broken),)))
    assert caught.value.permanent


async def test_a_missing_command_names_the_path(subject: ProcessSubject) -> None:
    """A command that is not found is refused with the PATH that was looked at, also when the template gives one."""
    with pytest.raises(LaunchFailed, match="`python` was not found") as caught:
        await subject.engine.create(subject.launch_argv(("python",), environment={"PATH": "/nonexistent"}))
    assert "/nonexistent" in caught.value.details


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".", "a" * 200])
async def test_a_run_id_never_leaves_the_folder(subject: ProcessSubject, name: str) -> None:
    """Names that are no plain file names are refused, whatever is asked."""
    with pytest.raises(ValueError, match="no name of an attempt"):
        await subject.engine.status(name, 1)
    with pytest.raises(ValueError, match="no name of an attempt"):
        await subject.engine.forget(name)


async def test_forget_removes_what_an_algorithm_locked(subject: ProcessSubject) -> None:
    """A scratch folder without permissions, and links that point outside, are removed, and nothing outside is."""
    outside = subject.folder / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    launch = subject.launch_argv(sh(f"mkdir -p shut/in; touch shut/in/file; ln -s {outside} link; chmod 000 shut/in shut"))
    await subject.engine.create(launch)
    await subject.ended(launch.run_id)
    await subject.engine.forget(launch.run_id)
    assert (outside / "kept").read_text() == "kept"
    assert list((subject.folder / "engine" / "attempts").iterdir()) == []
    assert list((subject.folder / "engine" / "trash").iterdir()) == []


# ── killed parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


@linux
async def test_a_killed_launcher_takes_its_attempt_along(subject: ProcessSubject) -> None:
    """When a launcher is killed, the command dies, what had detached is ended, and the attempt is recorded as LOST."""
    launch = subject.launch("family")
    await subject.engine.create(launch)
    await subject.begun(launch.run_id)
    os.kill(launcher_pid(subject, launch.run_id), signal.SIGKILL)
    end = await subject.ended(launch.run_id)
    assert end.exit.kind is ExitKind.LOST
    await until_gone(subject, launch.run_id)
    assert await subject.engine.status(launch.run_id, 1) == end
    assert await subject.engine.create(launch)
    assert subject.starts(launch.run_id) == 1


@linux
async def test_a_launcher_told_to_end_without_a_cancel_is_lost(subject: ProcessSubject) -> None:
    """SIGTERM to a launcher (a machine that shuts down) ends its attempt as LOST, not as CANCELLED."""
    launch = subject.launch("wait")
    await subject.engine.create(launch)
    await subject.begun(launch.run_id)
    os.kill(launcher_pid(subject, launch.run_id), signal.SIGTERM)
    assert (await subject.ended(launch.run_id)).exit.kind is ExitKind.LOST


@linux
async def test_an_end_nobody_could_record_is_found_at_the_next_start(subject: ProcessSubject) -> None:
    """A launcher killed while no service ran: the next service ends what it left, records LOST and says so."""
    launch = subject.launch("family")
    await subject.engine.create(launch)
    await subject.begun(launch.run_id)
    await subject.engine.stop()
    os.kill(launcher_pid(subject, launch.run_id), signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while folders.is_held(str(subject.folder / "engine" / "attempts" / launch.run_id / "1")):
            await asyncio.sleep(0.01)
    subject.engine = subject._made()
    await subject.start()
    assert (await subject.ended(launch.run_id)).exit.kind is ExitKind.LOST
    await until_gone(subject, launch.run_id)


async def test_a_killed_zygote_is_replaced(subject: ProcessSubject) -> None:
    """Attempts survive the fork server; the next create works."""
    before = subject.launch("wait")
    await subject.engine.create(before)
    for _ in range(3):
        pid = subject.engine.zygote_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        launch = subject.launch("exit:0")
        await subject.engine.create(launch)
        assert (await subject.ended(launch.run_id)).exit.code == 0
        assert subject.engine.zygote_pid != pid
    assert isinstance(await subject.engine.status(before.run_id, 1), Alive)


async def test_a_zygote_killed_under_load_starts_nothing_twice(subject: ProcessSubject) -> None:
    """Creates under way while the fork server is killed all succeed, each with one start."""
    launches = [subject.launch("exit:0") for _ in range(30)]
    creates = [asyncio.create_task(subject.engine.create(launch)) for launch in launches]
    await asyncio.sleep(0)
    pid = subject.engine.zygote_pid
    await asyncio.wait(creates, return_when=asyncio.FIRST_COMPLETED)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    uids = await asyncio.gather(*creates)
    assert len(set(uids)) == 30
    for launch in launches:
        assert (await subject.ended(launch.run_id)).exit.code == 0
        assert subject.starts(launch.run_id) == 1


async def test_fifty_at_once(subject: ProcessSubject) -> None:
    """Fifty creates at once give fifty attempts, fifty ends, one start each."""
    launches = [subject.launch("exit:0") for _ in range(50)]
    uids = await asyncio.gather(*(subject.engine.create(launch) for launch in launches))
    assert len(set(uids)) == 50
    for launch in launches:
        assert (await subject.ended(launch.run_id)).exit.code == 0
        assert subject.starts(launch.run_id) == 1


SERVICE = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from tests.contracts.engine_subject import ProcessSubject

async def main():
    folder, step, runs = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
    def on_step(name):
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)
    subject = ProcessSubject(folder, on_step=on_step)
    await subject.start()
    for program, run_id in zip(("family", "exit:6"), runs):
        await subject.engine.create(subject.launch(program, run_id=run_id))
        await subject.begun(run_id)
    await subject.ended(runs[1])
    await subject.engine.cancel(runs[0], 1)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def killed_service(folder: Path, step: str) -> list[str]:
    """Runs a service that kills itself at *step*; returns the ids of its two runs (``family`` and ``exit:6``)."""
    runs = [str(uuid.uuid4()), str(uuid.uuid4())]
    root = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, str(folder), step, ",".join(runs), root, stderr=subprocess.PIPE, cwd=root
    )
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)  # ends although launchers live: they hold no pipe of it
    assert process.returncode == -signal.SIGKILL, errors.decode()
    return runs


@pytest.mark.parametrize("step", ["engine.before-launch", "engine.after-launch"])
async def test_a_service_killed_while_it_starts_doubles_nothing(tmp_path: Path, step: str) -> None:
    """Killed before or after a launch, the next service creates the attempt again and it has been started once."""
    runs = await killed_service(tmp_path, step)
    subject = ProcessSubject(tmp_path)
    await subject.start()
    status = await subject.engine.status(runs[0], 1)
    assert isinstance(status, Absent if step == "engine.before-launch" else Alive)
    uid = await subject.engine.create(subject.launch("family", run_id=runs[0]))
    await subject.begun(runs[0])
    assert subject.starts(runs[0]) == 1
    if isinstance(status, Alive):
        assert uid == status.uid
    await subject.engine.cancel(runs[0], 1)
    await subject.ended(runs[0])
    await subject.close()


async def test_a_service_killed_while_it_cancels_finishes_the_cancel(tmp_path: Path) -> None:
    """Killed after the cancel was marked, before the launcher was told: the next service tells it. It hears of the other end."""
    runs = await killed_service(tmp_path, "engine.cancel-mark")
    subject = ProcessSubject(tmp_path)
    await subject.start()
    assert (await subject.ended(runs[0])).exit.kind is ExitKind.CANCELLED
    assert (await subject.ended(runs[1])).exit.code == 6
    assert [subject.starts(run_id) for run_id in runs] == [1, 1]
    assert subject.processes(runs[0]) == 0
    await subject.close()


async def test_a_killed_service_leaves_its_attempts_running(tmp_path: Path) -> None:
    """E7 with SIGKILL: the attempt runs on while no service does, and ends under the next one's eyes."""
    runs = [str(uuid.uuid4())]
    subject = ProcessSubject(tmp_path, on_step=None)
    code = SERVICE.replace("await subject.engine.cancel(runs[0], 1)", "pass")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), "", ",".join([*runs, str(uuid.uuid4())]), str(Path(__file__).parents[2])
    )
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == -signal.SIGKILL
    subject._ready[runs[0]] = 2
    assert subject.processes(runs[0]) == 2
    await subject.start()
    status = await subject.engine.status(runs[0], 1)
    assert isinstance(status, Alive)
    subject.kill(runs[0])
    end = await subject.ended(runs[0])
    assert isinstance(end, Ended)
    assert (end.exit.kind, end.exit.signal) == (ExitKind.SIGNALLED, signal.SIGKILL)
    await subject.close()


async def test_a_descriptor_is_never_mistaken_for_another_process(subject: ProcessSubject) -> None:
    """A lock that names a pid now used by another process: the attempt is lost, and that process is left alone."""
    launch = subject.launch("exit:0")
    folder = subject.folder / "engine" / "attempts" / launch.run_id / "1"
    folder.mkdir(parents=True)
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        (folder / "lock").write_text(json.dumps({"pid": bystander.pid, "start": 1, "uid": "old", "taken_us": 1}))
        await subject.engine.cancel(launch.run_id, 1)
        status = await subject.engine.status(launch.run_id, 1)
        assert isinstance(status, Ended)
        assert status.exit.kind is ExitKind.LOST
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("torn", [b'{"kind": "exi', b'{"kind": "exited", "ended_us": 1, "code": 1180591620717411303424}'])
async def test_a_torn_record_is_a_lost_attempt(subject: ProcessSubject, torn: bytes) -> None:
    """An exit record that cannot be read, or whose numbers no store has room for, is an end all the same, and stays that end."""
    launch = subject.launch("exit:0")
    await subject.engine.create(launch)
    await subject.ended(launch.run_id)
    (subject.folder / "engine" / "attempts" / launch.run_id / "1" / "exit").write_bytes(torn)
    first = await subject.engine.status(launch.run_id, 1)
    assert isinstance(first, Ended)
    assert first.exit.kind is ExitKind.LOST
    assert await subject.engine.status(launch.run_id, 1) == first


@linux
async def test_an_attempt_whose_folder_was_removed_ends(subject: ProcessSubject) -> None:
    """Somebody removes the data folder under a running attempt: as no service can know of it any more, it ends."""
    launch = subject.launch("family", memory_bytes=1 << 30)
    await subject.engine.create(launch)
    await subject.begun(launch.run_id)
    shutil.rmtree(subject.folder / "engine")
    await until_gone(subject, launch.run_id)


@linux
async def test_a_launcher_holds_nothing_of_the_service(subject: ProcessSubject) -> None:
    """A launcher has its lock, its logs, its pipes and nothing else open, and is small."""
    launch = subject.launch("wait")
    await subject.engine.create(launch)
    await subject.begun(launch.run_id)
    pid = launcher_pid(subject, launch.run_id)
    folder = str((subject.folder / "engine" / "attempts").resolve())

    def held() -> tuple[list[str], int]:
        """What else it has open, and how many pipes."""
        targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        others = [target for target in targets if not target.startswith((folder, "pipe:", "/dev/null"))]
        return others, sum(target.startswith("pipe:") for target in targets)

    async with asyncio.timeout(PATIENCE_S):
        while True:  # now and then it looks into /proc, and closes that again
            with contextlib.suppress(FileNotFoundError):
                if held() == ([], 4):  # pipes: two for signals, one a stream
                    break
            await asyncio.sleep(0.01)
    assert watch.proportional_bytes([pid]) < 8 << 20
