"""What an attempt executes: which file, where, with which environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexus.adapters.environments import LocalEnvironment
from nexus.adapters.process.commands import resolve
from nexus.runs.ports import Launch, LaunchFailed


def launch(*argv: str, environment: dict[str, str] | None = None, **more: Any) -> Launch:
    return Launch(run_id="r", algorithm="a", attempt=1, argv=argv, environment=environment or {}, **more)


def program(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_an_environments_programs_come_first(tmp_path: Path) -> None:
    """With a local environment its programs are found before the machine's, and those it lacks on the machine's PATH."""
    own, machine = program(tmp_path / "env/bin", "python"), program(tmp_path / "bin", "python")
    tool = program(tmp_path / "bin", "tool")
    local = LocalEnvironment(folder=tmp_path / "env", programs=tmp_path / "env/bin")
    variables = {"PATH": str(tmp_path / "bin")}
    assert resolve(launch("python"), local, tmp_path, variables).path == str(own)
    assert resolve(launch("python"), None, tmp_path, variables).path == str(machine)
    assert resolve(launch("tool"), local, tmp_path, variables).path == str(tool)
    assert resolve(launch("tool"), local, tmp_path, variables).environment["VIRTUAL_ENV"] == str(tmp_path / "env")


def test_the_templates_variables_win(tmp_path: Path) -> None:
    """Variables of the launch replace those passed through, PATH included."""
    other = program(tmp_path / "other", "tool")
    got = resolve(
        launch("tool", environment={"PATH": str(tmp_path / "other"), "LANG": "de", "OMP_NUM_THREADS": "7"}, cpu_millicores=2000),
        None,
        tmp_path,
        {"PATH": "/usr/bin", "LANG": "en", "TZ": "UTC", "OTHER": "x"},
    )
    assert got.path == str(other)
    assert got.environment == {
        "PATH": str(tmp_path / "other"), "LANG": "de", "TZ": "UTC", "HOME": str(tmp_path), "OMP_NUM_THREADS": "7",
    }  # fmt: skip


@pytest.mark.parametrize(("millicores", "threads"), [(1, "1"), (999, "1"), (1000, "1"), (1001, "2"), (4000, "4")])
def test_threads_follow_the_cpu_limit(tmp_path: Path, millicores: int, threads: str) -> None:
    """OMP_NUM_THREADS is the CPU limit in whole cores, rounded up."""
    tool = program(tmp_path, "tool")
    got = resolve(launch(str(tool), cpu_millicores=millicores), None, tmp_path, {})
    assert got.environment["OMP_NUM_THREADS"] == threads


def test_without_a_limit_threads_are_the_operators(tmp_path: Path) -> None:
    """The service's own OMP_NUM_THREADS reaches runs that have no limit, and only those."""
    tool = program(tmp_path, "tool")
    variables = {"OMP_NUM_THREADS": "7"}
    assert resolve(launch(str(tool)), None, tmp_path, variables).environment["OMP_NUM_THREADS"] == "7"
    limited = resolve(launch(str(tool), cpu_millicores=2000), None, tmp_path, variables)
    assert limited.environment["OMP_NUM_THREADS"] == "2"


def test_paths_count_from_the_working_directory(tmp_path: Path) -> None:
    """A command with a slash, or a relative folder on PATH, is looked up from the working directory, by default the project."""
    tool = program(tmp_path / "project", "tool")
    local = {"project": str(tmp_path / "project")}
    assert resolve(launch("./tool", local=local), None, tmp_path, {}).path == str(tool)
    assert resolve(launch("tool", local=local, environment={"PATH": "."}), None, tmp_path, {}).path == str(tool)
    assert resolve(launch(str(tool)), None, tmp_path / "scratch", {}).cwd == str(tmp_path / "scratch")
    given = {**local, "working-directory": str(tmp_path)}
    assert resolve(launch("project/tool", local=given), None, tmp_path, {}).cwd == str(tmp_path)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (launch(), "no command"),
        (launch(""), "no command"),
        (launch("./nothing"), "does not exist"),
        (launch("no-such-tool"), "was not found"),
        (launch("sh", local={"working-directory": "/no/where"}), "working directory `/no/where`"),
        (launch("sh", "a\0b"), "cannot be passed"),
        (launch("sh", environment={"A=B": "c"}), "cannot be passed"),
        (launch("sh", environment={"": "c"}), "cannot be passed"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, made: Launch, says: str) -> None:
    """Each command that cannot be started is refused for good, with its reason."""
    with pytest.raises(LaunchFailed, match=says) as caught:
        resolve(made, None, tmp_path, {"PATH": "/usr/bin:/bin"})
    assert caught.value.permanent
