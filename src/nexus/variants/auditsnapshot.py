"""An advisory snapshot: advisories with a version, so that a verdict can be computed again later.

A snapshot is a manifest (date of the data, sources, what it covers, counts, hashes) and an index (advisories by normalised
package name, one line a package, so that Git shows what changed). Pure: the adapter brings and takes the bytes.

``covers`` is None when the sources were a whole ecosystem: a package without a record then has no known vulnerability. Else it
lists the packages (or ``name==version``) that were asked for, and every other package is not audited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from nexus.kernel.clock import rfc3339
from nexus.kernel.errors import AdvisoriesUnusable
from nexus.variants.advisories import ECOSYSTEM, Advisory, normalise

FORMAT = 1
MANIFEST = "manifest.json"
MAX_BYTES = 512 * 1024 * 1024
_HINT = "import it again with `nexus advisories import SOURCE`"
_ADVISORIES = msgspec.json.Decoder(list[Advisory])
_INDEX = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where records came from: name, kind (folder, archive, file, snapshot, osv, pypi), count, date, hash of the bytes read."""

    name: str
    kind: str
    records: int
    sha256: str
    revision: str = ""
    date: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the snapshot is. ``date`` is that of its oldest source (single records added to it do not renew it)."""

    format: int
    ecosystem: str
    date: str
    imported: str
    records: int
    packages: int
    covers: tuple[str, ...] | None
    sources: tuple[Source, ...]
    skipped: tuple[str, ...]
    index: str
    index_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Advisories by package, decoded when asked for. ``id`` is the SHA-256 of everything a verdict depends on."""

    id: str
    manifest: Manifest
    _index: Mapping[str, msgspec.Raw]
    _covered: frozenset[str] | None
    _decoded: dict[str, tuple[Advisory, ...]] = field(default_factory=dict)

    @property
    def date(self) -> datetime:
        """When the data last changed."""
        return read_date(self.manifest.date)

    @property
    def name(self) -> str:
        """``2024-10-10 · 1f0c9a…``: date and short hash, as verdicts print it."""
        return f"{self.manifest.date[:10]} · {self.id[:12]}"

    def covers(self, package: str, version: str = "") -> bool:
        """Whether the absence of a record for this package (normalised name) means that none is known."""
        return self._covered is None or package in self._covered or f"{package}=={version}" in self._covered

    def of(self, package: str) -> tuple[Advisory, ...]:
        """The advisories of one package (normalised name). Raises AdvisoriesUnusable when the index lies about its form."""
        if package not in self._decoded:
            raw = self._index.get(package)
            try:
                self._decoded[package] = tuple(_ADVISORIES.decode(raw)) if raw is not None else ()
            except msgspec.DecodeError as error:
                raise AdvisoriesUnusable(f"the snapshot's records of `{package}` cannot be read: {error}", hint=_HINT) from error
        return self._decoded[package]

    def packages(self) -> Sequence[str]:
        """Normalised names of the packages with records."""
        return tuple(self._index)

    def all(self) -> Iterator[Advisory]:
        """Every advisory."""
        for package in self._index:
            yield from self.of(package)


def build(
    advisories: Iterable[Advisory],
    sources: Sequence[Source],
    *,
    now: datetime,
    covers: Sequence[str] | None = None,
    skipped: Sequence[str] = (),
    date: str = "",
) -> tuple[Manifest, bytes]:
    """Manifest and index of a snapshot. *date* is that of the data; by default the newest change of a record."""
    held = sorted(set(advisories), key=lambda item: (item.package, item.id))
    grouped: dict[str, list[Advisory]] = {}
    for advisory in held:
        grouped.setdefault(advisory.package, []).append(advisory)
    encoder = msgspec.json.Encoder()
    lines = (encoder.encode(name) + b":" + encoder.encode(found) for name, found in grouped.items())
    index = b"{" + b",\n".join(lines) + b"}\n"
    digest = hashlib.sha256(index).hexdigest()
    manifest = Manifest(
        format=FORMAT, ecosystem=ECOSYSTEM, date=date or newest(held) or rfc3339(now), imported=rfc3339(now), records=len(held),
        packages=len(grouped), covers=None if covers is None else tuple(sorted(set(covers))), sources=tuple(sources),
        skipped=tuple(skipped), index=f"advisories-{digest[:12]}.json", index_sha256=digest,
    )  # fmt: skip
    return manifest, index


def newest(advisories: Iterable[Advisory]) -> str:
    """The newest time any of them was changed; empty without one."""
    return max((max(item.modified, item.published) for item in advisories), default="")


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as it is written: indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(data: bytes, where: str) -> Manifest:
    """The manifest, checked. Raises AdvisoriesUnusable."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        read_date(manifest.date)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise AdvisoriesUnusable(f"the manifest of the snapshot `{where}` cannot be read: {error}", hint=_HINT) from error
    if manifest.format != FORMAT or manifest.ecosystem != ECOSYSTEM:
        what = f"format {manifest.format}, ecosystem `{manifest.ecosystem}`"
        raise AdvisoriesUnusable(
            f"the snapshot `{where}` has {what}; this version reads format {FORMAT} of {ECOSYSTEM}", hint=_HINT
        )
    if "/" in manifest.index or "\\" in manifest.index or manifest.index.startswith("."):
        raise AdvisoriesUnusable(f"the manifest of `{where}` names an index outside its folder: `{manifest.index}`", hint=_HINT)
    return manifest


def open_snapshot(manifest: Manifest, index: bytes, where: str) -> Snapshot:
    """The snapshot, when the index is the one the manifest names and holds what it says. Raises AdvisoriesUnusable.

    A whole ecosystem without a single record is refused: nobody's data, and every package would pass.
    """
    if hashlib.sha256(index).hexdigest() != manifest.index_sha256:
        raise AdvisoriesUnusable(
            f"the index of the snapshot `{where}` is not the one its manifest names (SHA-256 differs)", hint=_HINT
        )
    try:
        raw = _INDEX.decode(index)
    except (msgspec.DecodeError, RecursionError) as error:
        raise AdvisoriesUnusable(f"the index of the snapshot `{where}` cannot be read: {error}", hint=_HINT) from error
    if manifest.covers is None and not raw:
        raise AdvisoriesUnusable(f"the snapshot `{where}` claims a whole ecosystem and holds no record", hint=_HINT)
    if len(raw) != manifest.packages:
        raise AdvisoriesUnusable(
            f"the snapshot `{where}` holds {len(raw)} packages; its manifest says {manifest.packages}", hint=_HINT
        )
    covered = None if manifest.covers is None else frozenset(manifest.covers)
    return Snapshot(id=identity(manifest), manifest=manifest, _index=raw, _covered=covered)


def identity(manifest: Manifest) -> str:
    """SHA-256 of what a verdict depends on: records, what they cover, their date, what was left out; not the time of import."""
    said = [manifest.format, manifest.ecosystem, manifest.date, manifest.covers, manifest.skipped, manifest.index_sha256]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def find(snapshot: Snapshot, name: str) -> tuple[Advisory, ...]:
    """The advisories of a package, or with an id or alias of that name (case does not count)."""
    wanted = name.lower()
    found = tuple(item for item in snapshot.all() if wanted in (item.id.lower(), *(alias.lower() for alias in item.aliases)))
    return found or snapshot.of(normalise(name))


def read_date(text: str) -> datetime:
    """An RFC 3339 time in UTC, whatever its precision. Raises ValueError."""
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
