"""Folders and archives of advisories: reads OSV records from them, writes and reads snapshots.

Nothing is unpacked to disk: members of an archive are read in memory, one at a time, under limits, so that no name in an
archive can point anywhere. A snapshot is replaced in one step: the index gets a name of its own content, then the manifest is
renamed over the old one. The CLI calls this; what a record says is decided in ``nexus.variants.advisories``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from nexus.adapters import durable
from nexus.kernel import documents
from nexus.kernel.clock import rfc3339
from nexus.kernel.documents import Finding
from nexus.kernel.errors import AdvisoriesUnusable, InvalidInput
from nexus.variants import advisories, auditsnapshot
from nexus.variants.advisories import Advisory
from nexus.variants.auditsnapshot import MANIFEST, Manifest, Snapshot, Source

MAX_RECORDS = 300_000
WHOLE_RECORDS = 1000  # fewer are no ecosystem: PyPI had 2,661 records in October 2024
MAX_RECORD_BYTES = documents.MAX_BYTES
MAX_TOTAL_BYTES = 2 * 1024 * 1024 * 1024
MAX_RATIO = 200  # text of advisories shrinks by 3 to 10; a bomb by thousands
_LIVE = ("osv", "pypi")
_SUFFIXES = (".yaml", ".yml", ".json")
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar")
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a source held: advisories, findings, and where they came from. Files with an error gave no advisory.

    ``covers`` is None when one of the sources claims the whole ecosystem, else the packages that the sources speak of.
    """

    advisories: tuple[Advisory, ...]
    findings: tuple[Finding, ...]
    sources: tuple[Source, ...]
    covers: frozenset[str] | None

    @property
    def failed(self) -> tuple[str, ...]:
        """The files with an error, in order, once each."""
        return tuple(dict.fromkeys(finding.file for finding in self.findings if finding.severity == "error"))


@dataclass(slots=True)
class _Limits:
    """What one source may hold; raises InvalidInput beyond it, because then nothing it says can be believed."""

    name: str
    total: int = 0
    records: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def count(self, path: str, data: bytes) -> None:
        self.total += len(data)
        self.records += 1
        self.digest.update(path.encode() + b"\0" + len(data).to_bytes(8) + data)
        if self.total > MAX_TOTAL_BYTES or self.records > MAX_RECORDS:
            raise InvalidInput(
                f"`{self.name}` holds more than {MAX_RECORDS} records or {MAX_TOTAL_BYTES} bytes",
                hint="import the archive of one ecosystem",
            )


def read_sources(paths: Sequence[Path], *, complete: bool | None = None) -> Reading:
    """Every record of every source, with all findings.

    A folder or archive speaks for the whole ecosystem when *complete* says so; by default when it holds at least
    WHOLE_RECORDS. Else it speaks for the packages it names. Raises InvalidInput for
    a source that is no folder, archive or record.
    """
    held: list[tuple[str, Advisory]] = []
    findings: list[Finding] = []
    sources: list[Source] = []
    covers: frozenset[str] | None = frozenset()
    for path in paths:
        found, wrong, source, claimed = _read_source(path)
        held += found
        findings += wrong
        sources.append(source)
        whole = source.records >= WHOLE_RECORDS if complete is None else complete
        if source.kind == "file" or (not whole and source.kind != "snapshot"):
            claimed = frozenset(item.package for _, item in found)
        covers = None if covers is None or claimed is None else covers | claimed
    kept, twins = advisories.refuse_twins(held)
    return Reading(advisories=tuple(kept), findings=(*findings, *twins), sources=tuple(sources), covers=covers)


def _read_source(path: Path) -> tuple[list[tuple[str, Advisory]], list[Finding], Source, frozenset[str] | None]:
    if path.is_dir() and (path / MANIFEST).is_file():
        snapshot = load(path)
        source = Source(
            name=path.name, kind="snapshot", records=snapshot.manifest.records, sha256=snapshot.id, date=snapshot.manifest.date
        )
        covers = None if snapshot.manifest.covers is None else frozenset(snapshot.manifest.covers)
        return [(f"{path.name}/{item.package}", item) for item in snapshot.all()], [], source, covers
    limits = _Limits(path.name)
    findings: list[Finding] = []
    if path.is_dir():
        kind, files = "folder", _of_folder(path, findings)
    elif path.is_file() and path.name.endswith(ARCHIVES):
        kind, files = "archive", _of_archive(path, findings)
    elif path.is_file() and path.name.endswith(_SUFFIXES):
        kind, files = "file", iter([(path.name, _bounded(path))])
    else:
        raise InvalidInput(
            f"`{path}` is no folder, no archive ({', '.join(ARCHIVES)}) and no record ({', '.join(_SUFFIXES)})",
            hint="give a checkout of pypa/advisory-database, or OSV's archive of the PyPI ecosystem",
        )
    held: list[tuple[str, Advisory]] = []
    for given, data in files:
        name = documents.printable(given)
        limits.count(given, data)
        found, wrong = _read_record(name, data)
        held += [(name, item) for item in found]
        findings += wrong
    findings = [replace(finding, file=documents.printable(finding.file)) for finding in findings]
    source = Source(
        name=path.name, kind=kind, records=limits.records, sha256=limits.digest.hexdigest(), revision=_revision(path),
        date=auditsnapshot.newest(item for _, item in held),
    )  # fmt: skip
    return held, findings, source, None


def _read_record(name: str, data: bytes) -> tuple[list[Advisory], list[Finding]]:
    try:
        text = documents.decode(data, name)
    except documents.DocumentError as error:
        return [], [error.finding]
    return advisories.read_text(text, name)


def _of_folder(root: Path, findings: list[Finding]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every record below *root*, sorted; links are findings, hidden folders (``.git``) are left out."""
    for folder, folders, files in os.walk(root, followlinks=False):
        links = [Path(folder) / name for name in folders if (Path(folder) / name).is_symlink()]
        findings.extend(_link(link.relative_to(root).as_posix()) for link in links)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (Path(folder) / name).is_symlink())
        for name in sorted(files):
            path = Path(folder) / name
            shown = path.relative_to(root).as_posix()
            if name.startswith(".") or not name.endswith(_SUFFIXES):
                continue
            if path.is_symlink():
                findings.append(_link(shown))
            elif not path.is_file():
                findings.append(Finding(code="NX-A09", file=shown, message="not a regular file", hint="remove it from the source"))
            else:
                yield shown, _bounded(path)


def _link(name: str) -> Finding:
    return Finding(code="NX-A09", file=name, message="a symbolic link is not followed", hint="put the record itself in its place")


def _bounded(path: Path) -> bytes:
    """At most one byte more than a record may have; the reader reports what is too large."""
    try:
        with path.open("rb") as file:  # asked for by its size: a buffer of a megabyte a file costs more than the reading
            return file.read(min(os.fstat(file.fileno()).st_size, MAX_RECORD_BYTES) + 1)
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be read: {error.strerror}") from error


def _of_archive(path: Path, findings: list[Finding]) -> Iterator[tuple[str, bytes]]:
    try:
        yield from _of_zip(path, findings) if path.name.endswith(".zip") else _of_tar(path, findings)
    except _BROKEN as error:
        raise InvalidInput(
            f"the archive `{path.name}` cannot be read: {' '.join(str(error).split())[:200]}", hint="fetch it again"
        ) from error


def _of_zip(path: Path, findings: list[Finding]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir() or not _wanted(info.filename):
                continue
            mode = info.external_attr >> 16
            if mode and (mode & 0o170000) == 0o120000:
                findings.append(_link(info.filename))
            elif not _safe(info.filename):
                findings.append(_escape(info.filename))
            elif info.file_size > MAX_RECORD_BYTES or info.file_size > MAX_RATIO * max(info.compress_size, 512):
                findings.append(_oversized(info.filename, info.file_size))
            else:
                with archive.open(info) as member:
                    yield info.filename, member.read(MAX_RECORD_BYTES + 1)


def _of_tar(path: Path, findings: list[Finding]) -> Iterator[tuple[str, bytes]]:
    """Read as a stream: a bomb is met member by member and ends at the limits, whatever its headers claim."""
    packed = max(path.stat().st_size, 64 * 1024)
    passed = 0
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            passed += member.size
            if passed > MAX_RATIO * packed or passed > MAX_TOTAL_BYTES:
                raise InvalidInput(f"the archive `{path.name}` unpacks to more than {MAX_RATIO} times its size: refused as a bomb")
            if member.isdir() or not _wanted(member.name):
                continue
            if member.issym() or member.islnk():
                findings.append(_link(member.name))
            elif not member.isfile():
                findings.append(
                    Finding(code="NX-A09", file=member.name, message="not a regular file", hint="remove it from the source")
                )
            elif not _safe(member.name):
                findings.append(_escape(member.name))
            elif member.size > MAX_RECORD_BYTES:
                findings.append(_oversized(member.name, member.size))
            else:
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read(MAX_RECORD_BYTES + 1)


def _wanted(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return name.endswith(_SUFFIXES) and not any(part.startswith(".") and part not in (".", "..") for part in parts)


def _safe(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and not re.match(r"[A-Za-z]:", name)


def _escape(name: str) -> Finding:
    return Finding(
        code="NX-A09", file=name, message="the name points out of the archive", hint="do not use this archive: it was made to harm"
    )


def _oversized(name: str, size_bytes: int) -> Finding:
    message = f"the record has {size_bytes} bytes unpacked, more than a record may have or than its packed size can mean"
    return Finding(code="NX-A09", file=name, message=message, hint="remove it from the source")


def _revision(path: Path) -> str:
    """The commit a folder is checked out at, read from ``.git`` itself; empty where there is none."""
    for root in (path, path.parent):
        head = root / ".git" / "HEAD"
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = head.read_text("utf-8").strip()
            if not text.startswith("ref: "):
                return text if re.fullmatch(r"[0-9a-f]{40,64}", text) else ""
            reference = text.removeprefix("ref: ")
            if ".." in reference or reference.startswith("/"):
                return ""
            with contextlib.suppress(OSError):
                return (root / ".git" / reference).read_text("utf-8").strip()[:64]
            packed = (root / ".git" / "packed-refs").read_text("utf-8")
            return next((line.split(" ")[0] for line in packed.splitlines() if line.endswith(f" {reference}")), "")
    return ""


# ── snapshots ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def load(path: Path) -> Snapshot:
    """The snapshot in a folder, or in an archive of one. Raises AdvisoriesUnusable with the reason."""
    where = path.name or str(path)
    for attempt in (1, 2):
        try:
            manifest, index = _parts(path)
        except FileNotFoundError as error:
            if attempt == 1 and path.is_dir() and (path / MANIFEST).is_file():
                continue  # another process replaced the snapshot between the two reads
            raise _absent(path) from error
        except (OSError, *_BROKEN) as error:
            raise AdvisoriesUnusable(f"the snapshot `{where}` cannot be read: {' '.join(str(error).split())[:200]}") from error
        return auditsnapshot.open_snapshot(manifest, index, where)
    raise _absent(path)


def _absent(path: Path) -> AdvisoriesUnusable:
    return AdvisoriesUnusable(
        f"there is no advisory snapshot at `{path}`",
        hint="make one with `nexus advisories import SOURCE`, from a checkout of pypa/advisory-database or OSV's archive",
    )


def _parts(path: Path) -> tuple[Manifest, bytes]:
    if path.is_file():
        return _parts_of_archive(path)
    manifest = auditsnapshot.read_manifest(_limited(path / MANIFEST), path.name)
    return manifest, _limited(path / manifest.index)


def _limited(path: Path) -> bytes:
    if path.is_symlink():
        raise AdvisoriesUnusable(f"`{path.name}` of the snapshot is a symbolic link; it is not followed")
    with path.open("rb") as file:
        data = file.read(auditsnapshot.MAX_BYTES + 1)
    if len(data) > auditsnapshot.MAX_BYTES:
        raise AdvisoriesUnusable(f"`{path.name}` of the snapshot has more than {auditsnapshot.MAX_BYTES} bytes")
    return data


def _parts_of_archive(path: Path) -> tuple[Manifest, bytes]:
    """Manifest and index of an archive whose root, or whose only folder, is a snapshot."""
    wanted: dict[str, bytes] = {}
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if _of_snapshot(info.filename) and info.file_size <= min(
                    auditsnapshot.MAX_BYTES, MAX_RATIO * max(info.compress_size, 512)
                ):
                    wanted[PurePosixPath(info.filename).name] = archive.read(info)
    else:
        with tarfile.open(path, "r|*") as stream:
            for member in stream:
                if member.isfile() and member.size <= auditsnapshot.MAX_BYTES and _of_snapshot(member.name):
                    file = stream.extractfile(member)
                    wanted[PurePosixPath(member.name).name] = file.read() if file is not None else b""
                if len(wanted) > 8:
                    break
    if MANIFEST not in wanted:
        raise FileNotFoundError(MANIFEST)
    manifest = auditsnapshot.read_manifest(wanted[MANIFEST], path.name)
    if manifest.index not in wanted:
        raise FileNotFoundError(manifest.index)
    return manifest, wanted[manifest.index]


def _of_snapshot(name: str) -> bool:
    path = PurePosixPath(name)
    return _safe(name) and len(path.parts) <= 2 and (path.name == MANIFEST or path.name.startswith("advisories-"))


def save(folder: Path, manifest: Manifest, index: bytes) -> Snapshot:
    """Writes the snapshot in one step and removes indexes of older ones; a crash leaves the old snapshot or the new one.

    Raises InvalidInput when *folder* holds something else, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = {item.name for item in folder.iterdir()}
        if present and MANIFEST not in present and not all(_leftover(name) for name in present):
            raise InvalidInput(
                f"`{folder}` is no snapshot and not empty; nothing was written", hint="give another folder with `--to`"
            )
        durable.write(folder / manifest.index, index)
        durable.write(folder / MANIFEST, auditsnapshot.encode_manifest(manifest))
        for name in present:
            if name != manifest.index and _leftover(name):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"`{folder}` cannot be written: {error.strerror}", hint="nothing was replaced") from error
    return load(folder)


def _leftover(name: str) -> bool:
    return re.fullmatch(r"advisories-[0-9a-f]{12}\.json|\.(advisories-[0-9a-f]{12}|manifest)\.json\.[0-9a-f]{12}", name) is not None


def make(
    reading: Reading, *, now: datetime, only: frozenset[str] | None = None, skipped: Sequence[str] = ()
) -> tuple[Manifest, bytes]:
    """Manifest and index of what was read; *only* keeps (and covers) those packages. The date is that of the oldest source."""
    covers = reading.covers if only is None else only if reading.covers is None else reading.covers & only
    kept = reading.advisories if covers is None else [item for item in reading.advisories if item.package in covers]
    # a live service was asked just now, however old its newest record; one fresh record does not renew an old database
    dates = [rfc3339(now) if source.kind in _LIVE else source.date for source in reading.sources if source.kind != "file"]
    date = min(filter(None, dates), default="") or auditsnapshot.newest(reading.advisories)
    listed = None if covers is None else tuple(covers)
    return auditsnapshot.build(kept, reading.sources, now=now, covers=listed, skipped=skipped, date=date)
