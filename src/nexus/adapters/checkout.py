"""Reads the files of a registry from a folder, or from any Git revision without checking it out.

Nothing found in the tree is executed, and nothing but ordinary files is opened. Links are followed only to files inside the
registry. Git is called with argument lists, its hooks and helpers off; its objects are read through one ``cat-file --batch``.
Called by the commands of the registry and by the HTTP views; everything after is pure (``nexus.catalog``).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nexus.catalog import files as places
from nexus.catalog.files import Files, Trouble
from nexus.kernel.documents import MAX_BYTES, shown
from nexus.kernel.errors import NotARegistry, RevisionUnreadable

_READINGS = 3  # of a file that changes meanwhile
_MAX_ENTRIES = 500_000
_MAX_DEPTH = 32
_GIT_TIME_LIMIT_S = 60


def find_root(start: Path) -> Path:
    """The registry that *start* is, or is in: the nearest folder with a ``packages`` folder. Raises NotARegistry."""
    place = start.resolve()
    if not place.exists():  # a mistyped path must not be taken for the registry it would stand in
        raise NotARegistry(f"{shown(start)} is not there", hint="name the registry's folder")
    for folder in (place, *place.parents):
        if (folder / places.PACKAGES).is_dir():
            return folder
    raise NotARegistry(
        f"`{start}` is no registry: there is no `packages` folder in it or above it",
        hint="name the registry's folder, or make one: `mkdir packages`",
    )


def read_folder(root: Path, *, package: str | None = None) -> Files:
    """The files of the registry in this folder; of *package* alone and of the root, when it is given.

    Files that vanish meanwhile are absent; what cannot be read is a trouble. Raises NotARegistry when there is no such folder.
    """
    if not root.is_dir():
        raise NotARegistry(f"`{root}` is no folder", hint="name the registry's folder")
    return _Walk(root).read(package)


def read_benchmarks(folder: Path) -> Files:
    """A folder of logical benchmarks, wherever it is, as the ``benchmarks`` folder of a registry that holds nothing else."""
    place = folder.resolve()
    return _Walk(place.parent, stands_for=(places.BENCHMARKS, place.name)).read_only(places.BENCHMARKS)


def read_package(folder: Path) -> Files:
    """A package's folder that stands in no registry, as the one package of a registry."""
    place = folder.resolve()
    path = f"{places.PACKAGES}/{place.name}"
    return _Walk(place.parent, stands_for=(path, place.name)).read_only(path)


class _Walk:
    """One reading of a folder."""

    def __init__(self, root: Path, stands_for: tuple[str, str] = ("", "")) -> None:
        self.root = os.fspath(root)
        self.shown, self.real = stands_for  # a path of the registry, and where its content is below the root
        self.real_root = os.path.realpath(root)
        self.contents: dict[str, bytes] = {}
        self.others: list[str] = []
        self.troubles: list[Trouble] = []
        self.entries = 0

    def read(self, package: str | None) -> Files:
        for name in places.ROOT_FILES:
            place = f"{self.root}/{name}"
            if os.path.lexists(place):
                # A folder above it may be the link: `.github` that leads elsewhere.
                self._take(name, link=os.path.realpath(place) != f"{self.real_root}/{name}")
        for folder in (places.PACKAGES, places.BENCHMARKS) if package is None else (f"{places.PACKAGES}/{package}",):
            above = (folder.partition("/")[0], folder)
            linked = next((place for place in above if os.path.islink(f"{self.root}/{place}")), None)  # noqa: PTH114 - for speed
            if linked is not None:
                self._link(linked)
            else:
                self._folder(folder, 1)
        return self._files()

    def read_only(self, folder: str) -> Files:
        """This folder and nothing else of the registry."""
        self._folder(folder, 1)
        return self._files()

    def _files(self) -> Files:
        troubles = tuple(sorted(self.troubles, key=lambda one: one.path))
        return Files(contents=self.contents, others=frozenset(self.others), troubles=troubles)

    def _place(self, path: str) -> str:
        """Where a path of the registry is on disk."""
        if self.shown and path.startswith(self.shown):
            path = self.real + path[len(self.shown) :]
        return f"{self.root}/{path}"

    def _folder(self, folder: str, depth: int) -> None:
        try:
            with os.scandir(self._place(folder)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.troubles.append(Trouble("unreadable", folder, error.strerror or str(error)))
            return
        if depth > _MAX_DEPTH:
            self.troubles.append(Trouble("unreadable", folder, f"it is nested deeper than {_MAX_DEPTH} folders"))
            return
        if not entries and "/" in folder:
            self.others.append(f"{folder}/")  # Git has no empty folders; whoever made this one waits for it to count
        for entry in entries:
            self.entries += 1
            if self.entries > _MAX_ENTRIES:
                raise NotARegistry(
                    f"`{self.root}` holds more than {_MAX_ENTRIES} files", hint="keep data and environments out of the registry"
                )
            path = f"{folder}/{_utf8(entry.name)}"
            if entry.is_symlink():
                self._link(path)
            elif not path.endswith(entry.name):
                self.troubles.append(Trouble("name", path, "is not UTF-8"))
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in places.SKIPPED:
                    self._folder(f"{folder}/{entry.name}", depth + 1)
            elif places.wanted(path):
                self._take(path)
            else:
                self.others.append(path)

    def _link(self, path: str) -> None:
        target = os.path.realpath(self._place(path))
        if target != self.real_root and not target.startswith(self.real_root + os.sep):
            self.troubles.append(Trouble("link", path, "leads out of the registry"))
        elif os.path.isdir(target):  # noqa: PTH112
            self.troubles.append(Trouble("link", path, "leads to a folder"))
        elif not os.path.exists(target):  # noqa: PTH110
            self.troubles.append(Trouble("link", path, "leads nowhere"))
        elif places.wanted(path):
            self._take(path, link=True)
        else:
            self.others.append(path)

    def _take(self, path: str, *, link: bool = False) -> None:
        """Reads one file between two looks at its size and times; one that will not settle is a trouble."""
        place = self._place(path)
        if link:
            place = os.path.realpath(place)
            if not place.startswith(self.real_root + os.sep):
                self.troubles.append(Trouble("link", path, "leads out of the registry"))
                return
        try:
            for _ in range(_READINGS):
                data, settled = _read(place)
                if settled:
                    self.contents[path] = data
                    return
        except FileNotFoundError:
            return
        except _TooLargeError as error:
            self.troubles.append(Trouble("oversized", path, str(error)))
            return
        except OSError as error:
            self.troubles.append(Trouble("unreadable", path, error.strerror or str(error)))
            return
        self.troubles.append(Trouble("unsettled", path))


class _TooLargeError(Exception):
    """A file larger than a manifest may be; the text is its size."""


def _read(place: str) -> tuple[bytes, bool]:
    """The content, and whether the file was the same before and after."""
    # Not blocking: a named pipe must not hold the command up between the listing and this call.
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(0, "it is not an ordinary file")
        if before.st_size > MAX_BYTES:
            raise _TooLargeError(before.st_size)
        data = os.read(descriptor, before.st_size + 1)  # asked for more than there is: growth shows
        after = os.fstat(descriptor)
        same = (before.st_mtime_ns, before.st_size, before.st_ctime_ns) == (after.st_mtime_ns, after.st_size, after.st_ctime_ns)
        return data, same and len(data) == after.st_size
    finally:
        os.close(descriptor)


def _utf8(name: str) -> str:
    """The name, with what is not UTF-8 in it shown as replacement characters (the rule on names then speaks)."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_revision(root: Path, revision: str) -> Files:
    """The files of the registry in this folder as they were at *revision*. Raises RevisionUnreadable."""
    commit = resolve_revision(root, revision)
    prefix = _git(root, "rev-parse", "--show-prefix").decode().strip()
    listing = _git(root, "ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", *(prefix + name for name in _tops()))
    wanted: list[tuple[str, str]] = []
    others: list[str] = []
    troubles: list[Trouble] = []
    links: dict[str, str] = {}
    for mode, oid, size, path in _entries(listing, prefix):
        if mode == "120000":
            links[path] = oid
        elif mode == "160000" or not places.wanted(path):
            others.append(path)
        elif size > MAX_BYTES:
            troubles.append(Trouble("oversized", path, str(size)))
        else:
            wanted.append((path, oid))
    blobs = _blobs(root, [*(oid for _, oid in wanted), *links.values()])
    contents = {path: blobs[oid] for path, oid in wanted}
    for path, oid in links.items():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), blobs[oid].decode("utf-8", "replace")))
        if target in contents and places.wanted(path):
            contents[path] = contents[target]
        elif target in contents or target in others:
            others.append(path)
        else:
            troubles.append(
                Trouble("link", path, "leads out of the registry" if target.startswith(("/", "..")) else "leads nowhere")
            )
    return Files(contents=contents, others=frozenset(others), troubles=tuple(sorted(troubles, key=lambda one: one.path)))


def resolve_revision(root: Path, revision: str) -> str:
    """The full commit id of a revision. Raises RevisionUnreadable."""
    if not revision or revision.startswith("-") or any(character.isspace() or ord(character) < 32 for character in revision):
        raise RevisionUnreadable(f"{shown(revision)} is no Git revision", hint="name a branch, a tag or a commit")
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    except RevisionUnreadable as error:
        if error.__cause__ is not None:  # Git could not be asked
            raise
        if "dubious ownership" in error.message:
            raise RevisionUnreadable(
                f"Git does not read `{root}`, because the checkout belongs to another user",
                hint=f"if you trust it: `git config --global --add safe.directory {_top(root)}`",
            ) from error
        if "not a git repository" in error.message:
            raise RevisionUnreadable(f"`{root}` is in no Git checkout, so it has no revisions", hint=error.hint) from error
        raise RevisionUnreadable(
            f"Git knows no revision {shown(revision)} in `{root}`",
            hint="name a branch, a tag or a commit that this clone has; a shallow clone has few",
        ) from error


def merge_base(root: Path, revision: str, told: Callable[[str], None] = lambda _: None) -> str:
    """The commit at which the checkout parted from *revision*: what a pull request against it starts from.

    Without a common commit it is the revision itself, and *told* hears of it.
    """
    commit = resolve_revision(root, revision)
    try:
        return _git(root, "merge-base", commit, "HEAD").decode().strip() or commit
    except RevisionUnreadable:
        told(f"no commit in common with {shown(revision)}, as in a shallow clone: compared with its tip and all it gained since")
        return commit


def changed_since(root: Path, commit: str) -> frozenset[str]:
    """Paths in the registry whose content in the folder differs from *commit*, files Git does not know yet included."""
    prefix = _git(root, "rev-parse", "--show-prefix").decode().strip()
    tracked = _git(root, "diff", "--name-only", "--no-ext-diff", "--no-textconv", "--no-renames", "-z", commit, "--", ".")
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ".")
    names = [name.decode("utf-8", "replace") for name in (tracked + new).split(b"\0") if name]
    return frozenset(name.removeprefix(prefix) for name in names)


def repository_prefix(root: Path) -> str:
    """The registry's place in its repository, such as ``examples/registry/``; empty at its top or outside Git."""
    relative = root.resolve().relative_to(_top(root)).as_posix()
    return "" if relative == "." else f"{relative}/"


def _top(root: Path) -> Path:
    """The top of the checkout that holds this folder; the folder itself outside Git."""
    place = root.resolve()
    return next((folder for folder in (place, *place.parents) if (folder / ".git").exists()), place)


def _tops() -> Sequence[str]:
    return (places.PACKAGES, places.BENCHMARKS, *sorted(places.ROOT_FILES))


def _entries(listing: bytes, prefix: str) -> Iterator[tuple[str, str, int, str]]:
    for line in listing.split(b"\0"):
        if line:
            head, _, name = line.partition(b"\t")
            mode, _, oid, size = head.decode("ascii").split()
            yield mode, oid, int(size) if size != "-" else 0, name.decode("utf-8", "replace").removeprefix(prefix)


def _blobs(root: Path, oids: Sequence[str]) -> dict[str, bytes]:
    """The content of each object, all from one process."""
    unique = list(dict.fromkeys(oids))
    if not unique:
        return {}
    answer = memoryview(_git(root, "cat-file", "--batch", feed="".join(f"{oid}\n" for oid in unique).encode()))
    found: dict[str, bytes] = {}
    position = 0
    for oid in unique:
        end = bytes(answer[position : position + 200]).index(b"\n") + position
        parts = bytes(answer[position:end]).decode("ascii").split()
        if len(parts) != 3:
            raise RevisionUnreadable(
                f"Git lacks the object `{oid}`", hint="fetch the whole revision: `git fetch --unshallow`, or without a filter"
            )
        size = int(parts[2])
        found[oid] = bytes(answer[end + 1 : end + 1 + size])
        position = end + 1 + size + 1
    return found


def _git(root: Path, *arguments: str, feed: bytes = b"") -> bytes:
    from nexus.adapters import git  # only what asks for a revision pays for starting processes

    try:
        answer = git.run(*arguments, folder=root, time_limit_s=_GIT_TIME_LIMIT_S, feed=feed)
    except git.Unanswered as error:
        raise RevisionUnreadable(error.message, hint="install Git, or check the folder without a revision") from error
    if not answer.ok:
        raise RevisionUnreadable(f"Git refused: {answer.reason}", hint="the registry must be in a Git checkout for this")
    return answer.out
