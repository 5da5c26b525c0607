"""The uv adapter keeps the promises of Resolver and Locker.

The tests that need packages use small real ones from the configured index and are skipped, with the reason, when it does not
answer. What must hold without an index uses a directory of wheels made here, or an address where nobody listens.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.adapters.uv import Uv
from nexus.kernel.errors import ResolverUnavailable
from nexus.variants import archives, pins
from nexus.variants.ports import Problem, Resolution, Target, Unsatisfiable
from tests.contracts.wheel_index import Local, archive

LINUX = Target(python="3.12", platform="x86_64-manylinux_2_28")


def problem(*requirements: str, **options: object) -> Problem:
    return Problem(name="registry", requirements=requirements, python="3.11", requires_python=">=3.11", **options)  # type: ignore[arg-type]


def resolved(answer: Resolution | Unsatisfiable) -> dict[str, str]:
    assert isinstance(answer, Resolution), answer
    return {pin.name: pin.version for pin in answer.pins}


def test_a_resolution_has_versions_hashes_and_askers(local: Local) -> None:
    """Every pin carries the hash of its files and what asked for it; the registry itself stands as its project's name."""
    answer = local.uv().resolve(problem("left", "right"))
    assert resolved(answer) == {"left": "2.0", "right": "1.0", "shared": "2.0"}
    assert isinstance(answer, Resolution)
    by_name = {pin.name: pin for pin in answer.pins}
    assert by_name["shared"].via == ("left", "right")
    assert by_name["left"].via == ("registry",)
    assert by_name["left"].hashes == (
        "sha256:" + hashlib.sha256((local.folder / "left-2.0-py3-none-any.whl").read_bytes()).hexdigest(),
    )


def test_preferences_hold_until_they_are_upgraded(local: Local) -> None:
    """An older pin stays while it fits, and goes when it is named for renewal."""
    old = (pins.Pin(name="left", version="1.0"), pins.Pin(name="shared", version="1.0"))
    assert resolved(local.uv().resolve(problem("left", preferences=old))) == {"left": "1.0", "shared": "1.0"}
    assert resolved(local.uv().resolve(problem("left", preferences=old, upgrade=("left",))))["left"] == "2.0"


def test_no_solution_is_a_verdict_with_its_proof(local: Local) -> None:
    """R1: requirements that exclude one another give Unsatisfiable, and the proof names the contested package."""
    answer = local.uv().resolve(problem("left==1.0", "right"))
    assert isinstance(answer, Unsatisfiable)
    assert "shared" in answer.proof
    assert "error:" not in answer.proof


def test_an_unknown_package_is_a_verdict_too(local: Local) -> None:
    """A package that the index does not have cannot be met."""
    answer = local.uv().resolve(problem("nobody-has-this"))
    assert isinstance(answer, Unsatisfiable)
    assert "nobody-has-this" in answer.proof


def test_overrides_and_lone_packages(local: Local) -> None:
    """An override replaces what packages declare; without dependencies only the named package is pinned."""
    assert resolved(local.uv().resolve(problem("left==1.0", "right", overrides=("shared>=2",))))["shared"] == "2.0"
    assert resolved(local.uv().resolve(problem("right", dependencies=False))) == {"right": "1.0"}


def test_an_index_that_breaks_half_way_is_an_outage(local: Local) -> None:
    """R1: after the index has gone, a question is neither answered nor proven."""
    assert resolved(local.uv().resolve(problem("shared")))
    local.broken.set()
    with pytest.raises(ResolverUnavailable) as caught:
        local.uv().resolve(problem("left"))
    assert "nothing was written" in caught.value.hint


def test_credentials_never_stand_in_what_is_told(local: Local) -> None:
    """R4: an address with a password is used, and cut from the error."""
    local.broken.set()
    with pytest.raises(ResolverUnavailable) as caught:
        local.uv("ann:s3cret@").resolve(problem("left"))
    assert "s3cret" not in caught.value.text()
    assert any(base64.b64encode(b"ann:s3cret").decode() in line for line in local.log)


def test_pins_without_a_wheel_for_the_target_do_not_install(local: Local) -> None:
    """A dry run tells what installs where, downloads nothing into the environment, and names the package."""
    held = local.uv().resolve(problem("left"))
    assert isinstance(held, Resolution)
    assert local.uv().install_check(held.pins, LINUX).problem == ""
    data = (local.folder / "windows_only-1.0-py3-none-win_amd64.whl").read_bytes()
    stuck = pins.Pin(name="windows-only", version="1.0", hashes=("sha256:" + hashlib.sha256(data).hexdigest(),))
    assert "windows-only" in local.uv().install_check((stuck,), LINUX).problem


def test_a_pin_without_a_hash_does_not_install(local: Local) -> None:
    """Everything from the index is pinned by hash; wrong hashes are found by resolving again, before anything is fetched."""
    bare = pins.Pin(name="shared", version="2.0")
    assert "hash" in local.uv().install_check((bare,), LINUX).problem
    wrong = pins.Pin(name="shared", version="2.0", hashes=("sha256:" + "0" * 64,))
    answer = local.uv().resolve(problem("shared", preferences=(wrong,)))
    assert isinstance(answer, Resolution)
    assert pins.compare(answer.pins, (wrong,)) == ("~ shared==2.0  (hashes: 1 gone, 1 new)",)


def test_a_missing_dependency_among_the_pins_does_not_install(local: Local) -> None:
    """The pins must be complete: what one of them needs is pinned as well."""
    held = local.uv().resolve(problem("left"))
    assert isinstance(held, Resolution)
    partial = [pin for pin in held.pins if pin.name != "shared"]
    assert "shared" in local.uv().install_check(partial, LINUX).problem


def test_a_uv_that_hangs_is_ended(tmp_path: Path) -> None:
    """R3: a call ends at its time limit, together with what it started."""
    binary = tmp_path / "uv"
    child_file = tmp_path / "child"
    binary.write_text(f"#!/bin/sh\nsleep 300 & echo $! > {child_file}.new; mv {child_file}.new {child_file}\nwait\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    for limit_s in (3, 15, 60):  # a slow machine is given more time to start the child
        with pytest.raises(ResolverUnavailable) as caught:
            Uv(binary=str(binary), time_limit_s=limit_s).resolve(problem("left"))
        assert f"{limit_s} s" in caught.value.message
        if child_file.exists():
            break
    child = int(child_file.read_text())
    patience = time.monotonic() + 60  # the signal is sent; the kernel ends the child when it next runs it
    while not ended(child):
        assert time.monotonic() < patience, f"{child} lives on"
        time.sleep(0.01)


def ended(process_id: int) -> bool:
    """Whether a process is gone, or dead and not yet collected."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_an_interrupt_ends_what_runs_and_what_would_come(tmp_path: Path) -> None:
    """After end() the call under way and every later one raise at once: no thread waits for an index that does not answer."""
    binary, pipe = tmp_path / "uv", tmp_path / "started"
    os.mkfifo(pipe)
    binary.write_text(f"#!/bin/sh\necho yes > {pipe}\nsleep 300\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    uv = Uv(binary=str(binary), time_limit_s=200)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(uv.resolve, problem("left"))
        pipe.read_text()  # it runs
        uv.end()
        for call in (first, pool.submit(uv.resolve, problem("right"))):
            assert isinstance(call.exception(timeout=120), ResolverUnavailable)


def test_a_missing_uv_says_how_to_get_it(tmp_path: Path) -> None:
    """Without the tool the error names it."""
    with pytest.raises(ResolverUnavailable) as caught:
        Uv(binary=str(tmp_path / "nothing")).resolve(problem("left"))
    assert "pip install uv" in caught.value.hint


def test_what_uv_should_not_write_is_refused(tmp_path: Path) -> None:
    """Output that is no requirements file is an error, not an empty answer."""
    binary = tmp_path / "uv"
    binary.write_text("#!/bin/sh\necho '{not a pin}'\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(ResolverUnavailable):
        Uv(binary=str(binary)).resolve(problem("left"))


def test_a_registry_s_own_lock_is_checked_renewed_and_exported(local: Local, tmp_path: Path) -> None:
    """L1, L2: a lock is fresh until the declaration changes; the registry's files are never touched."""
    root = tmp_path / "registry"
    root.mkdir()
    head = '[project]\nname = "registry"\nversion = "0"\nrequires-python = ">=3.11"\n'
    text = f'{head}[project.optional-dependencies]\necosystem = ["left<2"]\n'
    (root / "pyproject.toml").write_text(text)
    lock = local.uv().lock(str(root))
    assert isinstance(lock, str)
    assert not (root / "uv.lock").exists()
    (root / "uv.lock").write_text(lock)
    assert local.uv().is_fresh(str(root)) == ""
    assert [pin.line() for pin in local.uv().export(str(root), "ecosystem", lock)] == ["left==1.0", "shared==1.0"]
    (root / "pyproject.toml").write_text(text.replace("left<2", "left>=2"))
    assert "updated" in local.uv().is_fresh(str(root))
    (root / "pyproject.toml").write_text(text.replace('"left<2"', '"left<2", "right"'))
    assert isinstance(local.uv().lock(str(root)), Unsatisfiable)
    assert (root / "uv.lock").read_text() == lock


def test_no_interpreter_is_ever_downloaded(local: Local, tmp_path: Path) -> None:
    """R2: whatever the user's environment says, uv is told never to fetch a Python."""
    binary = tmp_path / "uv"
    binary.write_text(f'#!{sys.executable}\nimport os\nprint("p" + os.environ["UV_PYTHON_DOWNLOADS"] + "==1")\n')
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    told = Uv(binary=str(binary), environ={**local.environ(), "UV_PYTHON_DOWNLOADS": "automatic"}).resolve(problem("left"))
    assert resolved(told) == {"pnever": "1"}


def test_side_by_side_uv_asks_little_at_once_unless_told_otherwise(local: Local, tmp_path: Path) -> None:
    """Bursts of several uv overrun name servers: each is told to ask for four things at a time, the user's number goes before."""
    binary = tmp_path / "uv"
    binary.write_text(f'#!{sys.executable}\nimport os\nprint("p==" + os.environ["UV_CONCURRENT_DOWNLOADS"])\n')
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    assert resolved(Uv(binary=str(binary), environ=local.environ()).resolve(problem("left"))) == {"p": "4"}
    told = {**local.environ(), "UV_CONCURRENT_DOWNLOADS": "50"}
    assert resolved(Uv(binary=str(binary), environ=told).resolve(problem("left"))) == {"p": "50"}


def test_asking_for_versions_alone_builds_nothing(local: Local, tmp_path: Path) -> None:
    """A question without dependencies finds a release that has only a source archive, and does not run it to learn more."""
    mark = tmp_path / "built"
    archive(local.folder, "shared", "3.0", mark)
    asked = problem("shared", "left", dependencies=False)
    assert resolved(local.uv().resolve(replace(asked, build=True))) == {"left": "2.0", "shared": "3.0"}
    assert not mark.exists()
    assert resolved(local.uv().resolve(asked)) == {"left": "2.0", "shared": "2.0"}
    refused = local.uv().resolve(problem("shared==3.0", dependencies=False))
    assert isinstance(refused, Unsatisfiable)
    assert archives.needs_build(refused.proof)


def test_a_source_archive_that_is_passed_over_is_told(local: Local, tmp_path: Path) -> None:
    """`variants resolve` and `check` name the release, what was taken, and how to allow the build; with that, it is taken."""
    mark, root = tmp_path / "built", tmp_path / "registry"
    archive(local.folder, "shared", "3.0", mark)
    root.mkdir()
    (root / "pyproject.toml").write_text(
        '[project]\nname = "registry"\nversion = "1"\nrequires-python = ">=3.11"\n'
        '[project.optional-dependencies]\necosystem = ["left", "shared"]\n'
    )

    def nexus(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("nexus")), "variants", *arguments]
        done = subprocess.run(command, cwd=root, env=local.environ(), capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    first = nexus("resolve")
    assert "warning[NX-V27]: `shared` 3.0 has only source archives and was not looked at: `ecosystem` gets 2.0" in first
    assert "`--build`, or `build = true` in `[tool.nexus]`" in first
    assert not mark.exists()
    assert "NX-V27" not in nexus("resolve", "--build", "--upgrade")
    assert mark.read_text() == "built"
    assert "shared==3.0" in (root / "requirements-ecosystem.txt").read_text()
    checked = nexus("check")
    assert "NX-V27" in checked
    assert re.search(r"requirements-ecosystem\.txt:\d+: warning\[NX-V27\]: `shared` 3\.0", checked)
    (root / "pyproject.toml").write_text((root / "pyproject.toml").read_text().replace('"shared"', '"shared==3.0"'))
    assert "hint: a build runs the package's code: allow it with `--build`" in nexus("resolve")
