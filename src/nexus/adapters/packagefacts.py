"""Collects the facts that REQ-1 is checked on: from an index, a wheel, a source archive, a folder or a Git reference.

What a file says is kept under its SHA-256, so that a second check downloads nothing. Nothing is built unless it is asked for,
and then in an isolated environment, in a folder of its own, with a time limit. What cannot be read becomes ``unchecked``.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

import nexus
from nexus.adapters import distributions, durable, git
from nexus.adapters.distributions import Contents
from nexus.adapters.packageindex import PackageIndex
from nexus.adapters.simplepages import File
from nexus.adapters.uvprogram import find_packaged
from nexus.kernel.errors import InvalidInput, MetadataUnavailable
from nexus.variants import packagefacts, packageimports
from nexus.variants.packagefacts import Facts
from nexus.variants.ports import Release

MAX_WHEEL_BYTES = 256 * 1024 * 1024
# What was kept holds for who read it: another version reads other things, another Python has other standard modules.
READER = f"{nexus.__version__}-{packageimports.EDITION}-py{sys.version_info.major}{sys.version_info.minor}"
MAX_LOOKED_UP = 12  # dependencies whose files are looked into to place an import, those with the likest names first
MAX_LOOKED_UP_BYTES = 8 * 1024 * 1024
GIT_LIMIT_S = 120
BUILD_LIMIT_S = 600
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_GIT = re.compile(r"git\+(?P<url>(?:https|ssh|file)://(?:[^@/#\s]+@)?[^@#\s]+)(?:@(?P<revision>[^@#\s]+))?(?:#.*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Collector:
    """Reads facts. ``index`` answers what an index knows; ``cache`` None keeps nothing; ``build`` allows builds."""

    index: PackageIndex
    cache: Path | None = None
    build: bool = False
    uv: str = ""  # empty: the one installed with this distribution

    def collect(self, name: str, source: str = "index", version: str = "") -> Facts:
        """The facts of *name* from ``index``, a wheel, a source archive, a folder, or ``git+https://…[@revision]``.

        Raises MetadataUnavailable when there is nothing to check at all, InvalidInput for a source that is none of these.
        """
        key = canonicalize_name(name)
        if source == "index":
            facts = self._from_index(key, version)
        elif source.startswith("git+"):
            facts = self._from_git(key, source)
        else:
            facts = self._from_path(key, Path(source))
        return self._placed(facts)

    def _from_index(self, name: str, version: str) -> Facts:
        held = self.index.files(name)
        chosen = version or _newest(held)
        release = [file for file in held if _same(file.version, chosen)]
        if not release:
            raise MetadataUnavailable(f"the index has no release {chosen} of `{name}`", hint="check the version, or the index")
        wheels = sorted(
            (file for file in release if file.is_wheel), key=lambda file: (not file.name.endswith("-any.whl"), file.name)
        )
        file = (wheels or release)[0]
        facts = Facts(
            name=name, source=f"{name} {chosen}", version=chosen, releases=self._releases(name, held),
            wheels=tuple(item.name for item in wheels), wheel=file.name if file.is_wheel else "",
        )  # fmt: skip
        try:
            contents = self._contents(file)
        except MetadataUnavailable as error:
            return self._without_file(facts, name, chosen, error)
        return _merged(facts, contents)

    def _without_file(self, facts: Facts, name: str, version: str, error: MetadataUnavailable) -> Facts:
        """The metadata alone, where the file itself cannot be read."""
        unchecked = {"imports": error.message}
        text = ""
        try:
            text = self.index.metadata(name, version).text
        except MetadataUnavailable as worse:
            unchecked = {"metadata": worse.message}
        return replace(facts, metadata=text, unchecked={**facts.unchecked, **unchecked})

    def _releases(self, name: str, held: tuple[File, ...]) -> tuple[Release, ...]:
        """The releases, with upload times from the index's JSON page where its simple page tells none."""
        releases = tuple(self.index.releases(name))
        if all(release.uploaded_at is not None for release in releases):
            return releases
        times = self._upload_times(name, held)
        return tuple(replace(release, uploaded_at=release.uploaded_at or times.get(release.version)) for release in releases)

    def _upload_times(self, name: str, held: tuple[File, ...]) -> dict[str, datetime]:
        index = held[0].index
        if not index.url.endswith("/simple"):
            return {}
        address = f"{index.url.removesuffix('/simple')}/pypi/{quote(name)}/json"
        try:
            answer = self.index.request(address, index, {"Accept": "application/json"}, missing_ok=True)
            if answer is None:
                return {}
            with contextlib.closing(answer):
                page: Any = msgspec.json.decode(answer.read(64 * 1024 * 1024))
        except (MetadataUnavailable, msgspec.DecodeError, OSError, RecursionError):
            return {}  # the check then says that there are no dates
        times: dict[str, datetime] = {}
        listed = page.get("releases") if isinstance(page, dict) else None
        for version, entries in listed.items() if isinstance(listed, dict) else ():
            for entry in entries if isinstance(entries, list) else ():
                with contextlib.suppress(ValueError, KeyError, TypeError, InvalidVersion):
                    key, moment = str(Version(version)), datetime.fromisoformat(entry["upload_time_iso_8601"])
                    times[key] = min(times.get(key, moment), moment)
        return times

    def _contents(self, file: File, limit: int = MAX_WHEEL_BYTES) -> Contents:
        """What a file of the index says, from the cache where its hash is known."""
        kept = self._kept(file.sha256)
        if kept is not None:
            return kept
        data = self.index.download(file, limit)
        if file.sha256 and hashlib.sha256(data).hexdigest() != file.sha256:
            raise MetadataUnavailable(
                f"`{file.name}` is not the file its index names (SHA-256 differs)", hint="try again; then tell the index's keeper"
            )
        return self._keep(self._final(_read(data, file.name), data, file.name), hashlib.sha256(data).hexdigest())

    def _from_path(self, name: str, path: Path) -> Facts:
        if path.is_dir():
            contents = distributions.read_folder(path, path.name)
            contents = contents if contents.final or not self.build else self._built(path, path.name)
            return self._published(_local(name, path.name, contents))
        if not path.is_file() or not path.name.endswith((".whl", ".tar.gz", ".zip", ".tgz")):
            raise InvalidInput(
                f"`{path}` is no wheel, source archive or folder", hint="give `index`, a file, or git+https://…@revision"
            )
        with path.open("rb") as file:
            data = file.read(MAX_WHEEL_BYTES + 1)
        if len(data) > MAX_WHEEL_BYTES:
            raise MetadataUnavailable(f"`{path.name}` is larger than {MAX_WHEEL_BYTES >> 20} MiB")
        digest = hashlib.sha256(data).hexdigest()
        contents = self._kept(digest) or self._keep(self._final(_read(data, path.name), data, path.name), digest)
        return self._published(_local(name, path.name, contents))

    def _published(self, facts: Facts) -> Facts:
        """The facts of one file or folder with the releases of that package that an index knows."""
        try:
            return replace(facts, releases=self._releases(facts.name, self.index.files(facts.name)))
        except MetadataUnavailable as error:
            return replace(facts, unchecked={**facts.unchecked, "releases": error.message})

    def _from_git(self, name: str, source: str) -> Facts:
        match = _GIT.fullmatch(source)
        shown = _USERINFO.sub("", source)[:200]
        if match is None or (match["revision"] or "").startswith("-"):
            raise InvalidInput(f"`{shown}` is no Git reference", hint="write git+https://host/owner/name.git@revision")
        with tempfile.TemporaryDirectory(prefix="nexus-facts-") as folder:
            clone, tree = Path(folder) / "clone", Path(folder) / "tree"
            _git("clone", "--bare", "--filter=blob:none", "--quiet", "--", match["url"], str(clone), folder=folder, shown=shown)
            revision = f"{match['revision'] or 'HEAD'}^{{commit}}"
            commit = _git("rev-parse", "--verify", "--end-of-options", revision, folder=clone, shown=shown).strip()
            dated = "--format=%(refname:short) %(creatordate:unix)"
            tags = _git("for-each-ref", "refs/tags", dated, folder=clone, shown=shown)
            archive = Path(folder) / "tree.tar"
            _git("archive", "--format=tar", "--prefix=tree/", "-o", str(archive), commit, folder=clone, shown=shown)
            data = _bounded(archive)
            contents = distributions.read_sdist(data, "tree.tar")
            if not contents.final and self.build:
                _unpack(archive, tree.parent)
                contents = self._built(tree, shown)
        return replace(_local(name, shown, contents), releases=_tagged(tags))

    def _final(self, contents: Contents, data: bytes, name: str) -> Contents:
        if contents.final or not self.build:
            return contents
        with tempfile.TemporaryDirectory(prefix="nexus-facts-") as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(data)
            return self._built(path, name)

    def _built(self, source: Path, name: str) -> Contents:
        """The contents of the wheel that an isolated build makes. Runs code of the package: only when asked for."""
        with tempfile.TemporaryDirectory(prefix="nexus-build-") as folder:
            passed = ("PATH", "LANG", "SSL_CERT_FILE", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
            environment = {key: os.environ[key] for key in passed if key in os.environ} | {"HOME": folder, "TMPDIR": folder}
            command = [
                self.uv or find_packaged() or "uv",
                "build",
                "--wheel",
                "--quiet",
                "--no-config",
                "--out-dir",
                f"{folder}/out",
                str(source),
            ]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False, env=environment, cwd=folder
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                why = f"not within {BUILD_LIMIT_S} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
                raise MetadataUnavailable(f"`{name}` could not be built: {why}") from error
            wheels = sorted(Path(folder, "out").glob("*.whl")) if done.returncode == 0 else []
            if len(wheels) != 1:
                raise MetadataUnavailable(
                    f"`{name}` could not be built: {' '.join(done.stderr.split())[-300:]}", hint="build it by hand to see why"
                )
            return replace_tags(distributions.read_wheel(wheels[0].read_bytes(), wheels[0].name))

    def _placed(self, facts: Facts) -> Facts:
        """The facts with the import names of declared dependencies, looked up only when an import cannot be placed without."""
        declared = packagefacts.declared(packagefacts.read_headers(facts.metadata).requires)
        _, unplaced = packageimports.undeclared(facts.imports, declared, {})
        if not unplaced:
            return facts
        provides: dict[str, frozenset[str]] = {}
        likely = sorted(declared, key=lambda name: (-max(_alike(name, item.name) for item in unplaced), name))
        for name in likely[:MAX_LOOKED_UP]:
            with contextlib.suppress(MetadataUnavailable):
                held = self.index.files(name)
                release = [file for file in held if file.version == _newest(held) and file.is_wheel]
                if release:
                    provides[name] = frozenset(self._contents(release[0], MAX_LOOKED_UP_BYTES).provides)
            if not any(packageimports.undeclared(facts.imports, declared, provides)):
                break
        return replace(facts, provides=provides)

    def _kept(self, sha256: str) -> Contents | None:
        if self.cache is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            return None
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.cache / f"{sha256}-{READER}.json").read_bytes(), type=Contents)
        return None

    def _keep(self, contents: Contents, sha256: str) -> Contents:
        """The contents, kept for the next check when they are final; a cache that cannot be written costs only time."""
        if self.cache is not None and contents.final:
            with contextlib.suppress(OSError):
                self.cache.mkdir(parents=True, exist_ok=True)
                durable.write(self.cache / f"{sha256}-{READER}.json", msgspec.json.encode(contents))
        return contents


def _git(*arguments: str, folder: Path | str, shown: str) -> str:
    try:
        answer = git.run(*arguments, folder=folder, time_limit_s=GIT_LIMIT_S, protocols=git.REMOTE)
    except git.Unanswered as error:
        raise MetadataUnavailable(f"`{shown}` could not be read: {error.message}", hint=error.hint) from error
    if not answer.ok:
        raise MetadataUnavailable(f"`{shown}` could not be read: {answer.reason}", hint="check the address and the revision")
    return answer.text


def replace_tags(contents: Contents) -> Contents:
    """Contents of a wheel built here: its tags are those of this machine and say nothing of what is released."""
    return msgspec.structs.replace(contents, tags=())


def _read(data: bytes, name: str) -> Contents:
    return distributions.read_wheel(data, name) if name.endswith(".whl") else distributions.read_sdist(data, name)


def _merged(facts: Facts, contents: Contents, unchecked: Mapping[str, str] | None = None) -> Facts:
    """The facts with what a file says; metadata that only a build can tell is not believed."""
    said = dict(unchecked or {})
    if not contents.final:
        said["metadata"] = "it is known only after a build (allow `--build`)"
    return replace(
        facts, metadata=contents.metadata if contents.final else "", wheel_tags=contents.tags,
        imports=contents.imports if contents.final else (), unreadable=contents.unreadable, unchecked={**facts.unchecked, **said},
    )  # fmt: skip


def _local(name: str, shown: str, contents: Contents) -> Facts:
    """Facts of one file or tree; a source tells of no wheel."""
    unchecked: dict[str, str] = {}
    wheel = shown if shown.endswith(".whl") else ""
    version = ""
    if wheel:
        try:
            version = str(parse_wheel_filename(wheel)[1])
        except (InvalidWheelFilename, InvalidVersion) as error:
            raise InvalidInput(f"`{wheel}` is no wheel's name: {error}", hint="keep the name it was built with") from error
    else:
        unchecked["wheels"] = "a source tells of no released wheel; check it from the index, or give the wheel"
    facts = Facts(
        name=name,
        source=shown,
        version=version,
        wheels=(wheel,) if wheel else (),
        wheel=wheel,
        unchecked=unchecked,
    )
    return _merged(facts, contents)


def _tagged(listing: str) -> tuple[Release, ...]:
    """Releases from Git tags such as ``v1.2.3``, by their dates."""
    releases = []
    for line in listing.splitlines():
        tag, _, seconds = line.rpartition(" ")
        match = re.fullmatch(r"(?:[A-Za-z][A-Za-z0-9_-]*?[-_/])?v?(\d.*)", tag)
        with contextlib.suppress(InvalidVersion, ValueError):
            if match is not None:
                releases.append(Release(version=str(Version(match[1])), uploaded_at=datetime.fromtimestamp(int(seconds), UTC)))
    return tuple(sorted(releases, key=lambda release: Version(release.version)))


def _alike(distribution: str, name: str) -> float:
    """How much a distribution's name looks like an import name, 0 to 1."""
    return difflib.SequenceMatcher(None, distribution, canonicalize_name(name)).ratio()


def _newest(held: tuple[File, ...]) -> str:
    """The newest version that is neither yanked nor a pre-release; else the newest there is."""
    versions = sorted({file.version for file in held if not file.yanked} or {file.version for file in held}, key=Version)
    return next((version for version in reversed(versions) if not Version(version).is_prerelease), versions[-1])


def _same(left: str, right: str) -> bool:
    try:
        return Version(left) == Version(right)
    except InvalidVersion:
        return False


def _bounded(path: Path) -> bytes:
    if path.stat().st_size > distributions.MAX_TOTAL_BYTES:
        raise MetadataUnavailable("the tree at that revision is too large to be read")
    return path.read_bytes()


def _unpack(archive: Path, target: Path) -> None:
    """Unpacks the tree that Git packed for us, with tarfile's filter for data (no links out, no devices)."""
    import tarfile

    with tarfile.open(archive) as held:
        held.extractall(target, filter="data")
