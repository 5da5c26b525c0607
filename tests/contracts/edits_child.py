"""Run by the tests of edits: carries an edit out again and again, with a fault before each operation on the file system.

An audit hook sees every such operation and cannot be taken back, so each try is a child of this small process. Prints a JSON
line a try: number, how the try ended, what stood there then, and what stands there after the next edit would have begun.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path

from nexus.adapters import edits
from nexus.catalog.editing import Plan, Step
from nexus.kernel.errors import RegistryEditRefused

_OPERATIONS = frozenset({"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"})
_MOST = 200


def plan() -> Plan:
    """One step of each kind: a changed file, a new one, a new one in new folders, a moved folder, a deleted folder and file."""
    return Plan(
        steps=(
            Step(kind="write", path="pyproject.toml", before=b"old\n", after=b"new\n"),
            Step(kind="write", path="requirements-product.txt", after=b"made\n"),
            Step(kind="write", path="packages/c/deep/nexus.yaml", after=b"c\n"),
            Step(kind="move", path="packages/a", to="packages/moved"),
            Step(kind="write", path="packages/moved/nexus.yaml", before=b"a\n", after=b"moved\n"),
            Step(kind="delete", path="packages/b"),
            Step(kind="delete", path="requirements-old.txt", before=b"gone\n"),
        )
    )


def make(root: Path) -> None:
    for path, text in (
        ("pyproject.toml", "old\n"), ("requirements-old.txt", "gone\n"),
        ("packages/a/nexus.yaml", "a\n"), ("packages/a/usage.md", "x\n"), ("packages/b/nexus.yaml", "b\n"),
    ):  # fmt: skip
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def tree(root: Path) -> dict[str, str]:
    """Every file and empty folder of the registry, the work folder of edits aside."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] != edits.STAGE and (path.is_file() or not any(path.iterdir())):
            found[name] = path.read_text() if path.is_file() else ""
    return found


def fault(before: int, how: str) -> list[int]:
    """From here on, the operation number *before* fails, or is the last that this process sees begin. How many were seen."""
    os.fsync = lambda _: None  # what survives a crash of the machine is not asked here, and it is most of the time
    seen = [0]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event not in _OPERATIONS and not writes:
            return
        seen[0] += 1
        if seen[0] == before:
            if how == "kill":
                os._exit(9)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    sys.addaudithook(hook)
    return seen


def attempt(root: Path, number: int, how: str, *, undo: int = 0) -> int:
    """The exit of a child that carries the plan out with a fault; with *undo*, of one whose undoing has the fault.

    0: there was no operation of that number. 6: it failed, and that did not matter. 9: killed. 3: refused with a hint.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        seen = fault(undo or number, how)
        if undo:
            edits.recover(root)
        else:
            edits.apply(root, plan())
    except RegistryEditRefused as error:
        os._exit(3 if error.hint else 4)
    except BaseException as error:
        sys.stderr.write(repr(error) + "\n")
        os._exit(5)
    os._exit(6 if seen[0] >= (undo or number) else 0)


def interrupt(root: Path) -> None:
    """Leaves the registry in the middle of an edit, its first file already written."""
    for number in range(1, _MOST):
        make(root)
        attempt(root, number, "kill")
        if (root / "pyproject.toml").read_text() == "new\n":
            return
        shutil.rmtree(root)


def main(folder: str, how: str) -> None:
    if how == "interrupt":
        return interrupt(Path(folder))
    for number in range(1, _MOST):
        root = Path(folder) / f"{how}-{number}"
        make(root)
        before = tree(root)
        exit_ = attempt(root, number, how)
        left, told = tree(root), edits.state(root)
        undone = [attempt(root, 0, "kill", undo=step) for step in range(1, 4)] if exit_ == 9 else []
        edits.recover(root)
        line = {
            "number": number, "exit": exit_, "left": left, "told": told, "undone": undone, "before": before,
            "after": tree(root), "stage": (root / edits.STAGE).exists(),
        }  # fmt: skip
        sys.stdout.write(json.dumps(line) + "\n")
        shutil.rmtree(root)
        if exit_ == 0:
            break
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
