"""Wheels, source archives and folders as facts: metadata, tags and imports, without building or importing anything.

Members are read in memory under limits; nothing is unpacked. Used by `nexus.adapters.packagefacts`, which decides where the
bytes come from and keeps what was read under their SHA-256.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from nexus.kernel.errors import MetadataUnavailable
from nexus.variants import packageimports
from nexus.variants.packageimports import Import

MAX_MEMBERS = 50_000
MAX_METADATA_BYTES = 4 * 1024 * 1024
MAX_TOTAL_BYTES = 256 * 1024 * 1024
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
_ROOTS = ("src", "lib")
_NOT_SHIPPED = (
    "setup.py",
    "conftest.py",
    "noxfile.py",
    "docs",
    "doc",
    "tests",
    "test",
    "examples",
    "benchmarks",
    "scripts",
    "tools",
    "bench",
)


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a distribution's files say. ``final`` is False where the metadata is known only after a build."""

    metadata: str
    final: bool = True
    tags: tuple[str, ...] = ()
    imports: tuple[Import, ...] = ()
    unreadable: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


def read_wheel(data: bytes, name: str) -> Contents:
    """The contents of a wheel. Raises MetadataUnavailable when it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _wheel(archive, name)
    except _BROKEN as error:
        raise MetadataUnavailable(f"`{name}` cannot be read as a wheel: {_line(error)}", hint="build or fetch it again") from error


def _wheel(archive: zipfile.ZipFile, name: str) -> Contents:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > 16 * MAX_TOTAL_BYTES:
        raise MetadataUnavailable(f"`{name}` holds too many or too large files to be read")
    named = {info.filename: info for info in infos}
    found = [path for path in named if re.fullmatch(r"[^/]+\.dist-info/METADATA", path)]
    if len(found) != 1 or named[found[0]].file_size > MAX_METADATA_BYTES:
        raise MetadataUnavailable(
            f"`{name}` has {len(found)} METADATA files, where one of at most {MAX_METADATA_BYTES} bytes is meant"
        )
    metadata = archive.read(found[0]).decode(errors="replace")
    wheel = found[0].replace("METADATA", "WHEEL")
    tags = re.findall(r"(?m)^Tag:\s*(\S+)\s*$", archive.read(wheel).decode(errors="replace")) if wheel in named else []
    modules = _bounded(
        (path, info.file_size, lambda info=info: archive.read(info)) for path, info in named.items() if path.endswith(".py")
    )
    scan = packageimports.scan(modules)
    shipped = [path for path in named if path.endswith((".py", ".so", ".pyd", ".pyi")) and ".data/" not in path]
    provides = tuple(sorted(packageimports.own_names(shipped)))
    return Contents(metadata=metadata, tags=tuple(tags), imports=scan.imports, unreadable=scan.unreadable, provides=provides)


def read_sdist(data: bytes, name: str) -> Contents:
    """The contents of a source archive (.tar.gz or .zip): PKG-INFO or pyproject.toml, and modules. Raises MetadataUnavailable."""
    try:
        members = dict(_zip_members(data) if name.endswith(".zip") else _tar_members(data))
    except _BROKEN as error:
        raise MetadataUnavailable(f"`{name}` cannot be read: {_line(error)}", hint="fetch it again") from error
    return read_tree({path.partition("/")[2]: content for path, content in members.items()}, name)


def read_folder(root: Path, name: str) -> Contents:
    """The contents of a source folder; links are not followed. Raises MetadataUnavailable."""
    members: dict[str, bytes] = {}
    total = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [item for item in folders if not item.startswith(".")]
        for item in files:
            path = Path(folder) / item
            if not _wanted(item) or path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                members[path.relative_to(root).as_posix()] = file.read(MAX_METADATA_BYTES + 1)
            total += len(members[path.relative_to(root).as_posix()])
            if total > MAX_TOTAL_BYTES or len(members) > MAX_MEMBERS:
                raise MetadataUnavailable(f"`{name}` holds too many or too large files to be read")
    return read_tree(members, name)


def read_tree(files: Mapping[str, bytes], name: str) -> Contents:
    """The contents of a source tree given as {path: bytes}. Metadata that only a build can tell is marked as not final."""
    package_info = files.get("PKG-INFO", b"").decode(errors="replace")
    text, final = package_info, _is_final(package_info)
    if not final and (not package_info or "pyproject.toml" in files):
        text, final = _from_pyproject(files, name)
    modules = {_in_package(path): content for path, content in files.items() if path.endswith(".py") and _ships(path)}
    scan = packageimports.scan(modules)
    return Contents(
        metadata=text,
        final=final,
        imports=scan.imports,
        unreadable=scan.unreadable,
        provides=tuple(sorted(packageimports.own_names(modules))),
    )


def _from_pyproject(files: Mapping[str, bytes], name: str) -> tuple[str, bool]:
    """Core metadata as text from ``[project]``, and whether none of it is dynamic. Source: PyPA pyproject.toml specification."""
    if "pyproject.toml" not in files:
        raise MetadataUnavailable(
            f"`{name}` has no PKG-INFO and no pyproject.toml: its metadata is known only after a build", hint="allow `--build`"
        )
    try:
        project: Any = tomllib.loads(files["pyproject.toml"].decode()).get("project")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, AttributeError) as error:
        raise MetadataUnavailable(f"the pyproject.toml of `{name}` cannot be read: {_line(error)}") from error
    if not isinstance(project, dict):
        raise MetadataUnavailable(f"the pyproject.toml of `{name}` has no `[project]` table", hint="allow `--build`")
    dynamic = set(project.get("dynamic", ())) if isinstance(project.get("dynamic"), list) else set()
    lines = ["Metadata-Version: 2.2", f"Name: {_one(project.get('name'))}", f"Version: {_one(project.get('version'))}"]
    lines += [f"Summary: {_one(project['description'])}"] if "description" in project else []
    for key, field in (("authors", "Author"), ("maintainers", "Maintainer")):
        for person in project.get(key, []) if isinstance(project.get(key), list) else []:
            lines.append(f"{field}: {_one(person.get('name') or person.get('email'))}" if isinstance(person, dict) else "")
    urls = project.get("urls", {})
    lines += [f"Project-URL: {_one(label)}, {_one(url)}" for label, url in urls.items()] if isinstance(urls, dict) else []
    lines += [f"Requires-Dist: {_one(item)}" for item in _list(project.get("dependencies"))]
    optional = project.get("optional-dependencies", {})
    for extra, items in optional.items() if isinstance(optional, dict) else ():
        lines += [f"Requires-Dist: {_one(item)} ; extra == '{_one(extra)}'" for item in _list(items) if ";" not in str(item)]
        lines += [f"Requires-Dist: {_one(item)}" for item in _list(items) if ";" in str(item)]
    body = "\n\nSee its readme.\n" if project.get("readme") else "\n\n"
    return "\n".join(line for line in lines if line) + body, not dynamic & {
        "version",
        "dependencies",
        "optional-dependencies",
        "description",
    }


def _is_final(text: str) -> bool:
    """Whether a PKG-INFO promises that a build changes nothing (PEP 643)."""
    version = re.search(r"(?m)^Metadata-Version:\s*(\d+)\.(\d+)", text)
    dynamic = {item.strip().lower() for item in re.findall(r"(?m)^Dynamic:\s*(\S+)", text.partition("\n\n")[0])}
    return (
        version is not None and (int(version[1]), int(version[2])) >= (2, 2) and not dynamic & {"requires-dist", "provides-extra"}
    )


def _tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    total = 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|*") as archive:
        for number, member in enumerate(archive):
            total += member.size
            if total > MAX_TOTAL_BYTES * 4 or number > MAX_MEMBERS:
                raise ValueError("it unpacks to more than is read")
            if member.isfile() and _wanted(member.name) and member.size <= MAX_METADATA_BYTES:
                file = archive.extractfile(member)
                yield member.name, file.read() if file is not None else b""


def _zip_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        held = (
            (info.filename, info.file_size, lambda info=info: archive.read(info))
            for info in archive.infolist()
            if _wanted(info.filename)
        )
        yield from _bounded(held).items()


def _bounded(members: Iterable[tuple[str, int, Any]]) -> dict[str, bytes]:
    """The members read, each and together within limits; larger modules are kept as a stub that counts as unreadable."""
    found: dict[str, bytes] = {}
    total = 0
    for path, size, read in members:
        if size > packageimports.MAX_MODULE_BYTES and path.endswith(".py"):
            found[path] = b"("
            continue
        total += size
        if total > MAX_TOTAL_BYTES or len(found) > MAX_MEMBERS:
            raise ValueError("it unpacks to more than is read")
        found[path] = read()
    return found


def _wanted(path: str) -> bool:
    return path.endswith((".py", "PKG-INFO", "pyproject.toml"))


def _ships(path: str) -> bool:
    """Whether a module of a source tree is likely part of the package: not at the root's scripts, not in its tests or docs."""
    first = PurePosixPath(path).parts[0]
    return first not in _NOT_SHIPPED and not first.endswith(".egg-info")


def _in_package(path: str) -> str:
    first, _, rest = path.partition("/")
    return rest if first in _ROOTS and rest else path


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _one(value: Any) -> str:
    return " ".join(str(value if value is not None else "").split())[:2000]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
