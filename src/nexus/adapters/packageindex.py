"""Reads releases and core metadata from the configured package index. Implements PackageMetadata of `nexus.variants.ports`.

Speaks the simple API as JSON (PEP 691) or HTML (PEP 503). Metadata comes from the sidecar file (PEP 658), else from the wheel
by ranged reads of its archive, else from the PKG-INFO of a source archive that promises it is final (PEP 643). Nothing is ever
built, imported or unpacked to disk. What was read is kept in a cache folder under the file's SHA-256.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import io
import os
import re
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from packaging.utils import (
    canonicalize_name,
)
from packaging.version import InvalidVersion, Version

from nexus.adapters import durable, gitsource, simplepages
from nexus.adapters.indexes import Index, configured
from nexus.adapters.simplepages import File
from nexus.kernel.errors import MetadataUnavailable
from nexus.variants.ports import Metadata, Release

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MAX_PAGE = 64 * 1024 * 1024
_MAX_METADATA = 4 * 1024 * 1024
_MAX_ARCHIVE = 64 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?")


class PackageIndex:
    """The indexes of this machine. Safe to call from several threads; pages are read once a process."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        project: Mapping[str, Any] | None = None,
        cache: Path | None = None,
        time_limit_s: float = 30.0,
    ) -> None:
        self._indexes = configured(os.environ if environ is None else environ, project)
        self._cache = cache
        self._time_limit_s = time_limit_s
        self._pages: dict[str, tuple[File, ...]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        handlers = (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler())
        self._opener = urllib.request.OpenerDirector()  # http and https alone: an index must not send us to `file:`
        for handler in (
            *handlers,
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
        ):
            self._opener.add_handler(handler)

    def end(self) -> None:
        """Refuses every request from now on with MetadataUnavailable: for interrupts."""
        self._ended.set()

    def files(self, name: str) -> tuple[File, ...]:
        """Every file of a project, oldest version first. Raises MetadataUnavailable."""
        if not _NAME.fullmatch(name):
            raise MetadataUnavailable(
                f"`{name[:80]!r}` is no name of a Python package", hint="names have letters, digits, `.`, `_` and `-`"
            )
        key = canonicalize_name(name)
        with self._lock:
            if key in self._pages:
                return self._pages[key]
        for index in self._indexes:
            page = self._page(index, key)
            if page is not None:
                with self._lock:
                    self._pages[key] = page
                return page
        raise MetadataUnavailable(
            f"the index has no package `{key}`", hint="check the spelling, or configure the index that has it"
        )

    def releases(self, name: str) -> Sequence[Release]:
        """Every release, oldest first. Raises MetadataUnavailable."""
        grouped: dict[str, list[File]] = {}
        for file in self.files(name):
            grouped.setdefault(file.version, []).append(file)
        return [
            Release(
                version=version, files=tuple(file.name for file in held), yanked=all(file.yanked for file in held),
                requires_python=next((file.requires_python for file in held if file.requires_python), ""),
                uploaded_at=min((file.uploaded_at for file in held if file.uploaded_at is not None), default=None),
            )
            for version, held in grouped.items()
        ]  # fmt: skip

    def metadata(self, name: str, version: str) -> Metadata:
        """The metadata of one release. Raises MetadataUnavailable."""
        held = [file for file in self.files(name) if _same(file.version, version)]
        if not held:
            raise MetadataUnavailable(
                f"the index has no release {version} of `{canonicalize_name(name)}`", hint="check the version, or the index"
            )
        wheels = sorted((file for file in held if file.is_wheel), key=lambda file: (not file.name.endswith("-any.whl"), file.name))
        chosen = (wheels or held)[0]
        text = self._cached(chosen) or self._kept(chosen, self._read(chosen))
        return parse(text, name, version)

    def source(self, name: str, url: str) -> Metadata:
        """The metadata that a Git source declares at a commit. Raises MetadataUnavailable."""
        return gitsource.read(name, url, time_limit_s=self._time_limit_s)

    def _read(self, file: File) -> str:
        if not file.is_wheel:
            return self._from_source(file)
        sidecar = self._fetch(file.url + ".metadata", file.index, _MAX_METADATA, missing_ok=True)
        if sidecar is not None:
            return sidecar.decode(errors="replace")
        return self._from_wheel(file)

    def _from_wheel(self, file: File) -> str:
        try:
            with zipfile.ZipFile(_Ranged(self, file)) as archive:
                entries = [entry for entry in archive.infolist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry.filename)]
                if len(entries) != 1 or entries[0].file_size > _MAX_METADATA:
                    raise MetadataUnavailable(
                        f"`{file.name}` has no usable METADATA file", hint="ask its maintainers for a valid wheel"
                    )
                return archive.read(entries[0]).decode(errors="replace")
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise MetadataUnavailable(
                f"`{file.name}` cannot be read as a wheel: {error}", hint="try again, or pin another release"
            ) from error

    def _from_source(self, file: File) -> str:
        data = self.download(file, _MAX_ARCHIVE)
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
                for entry in archive:
                    if re.fullmatch(r"[^/]+/PKG-INFO", entry.name) and entry.isfile() and entry.size <= _MAX_METADATA:
                        stream = archive.extractfile(entry)
                        text = stream.read().decode(errors="replace") if stream is not None else ""
                        return self._final(file, text)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise MetadataUnavailable(f"`{file.name}` cannot be read: {error}", hint="try again, or pin another release") from error
        raise MetadataUnavailable(f"`{file.name}` carries no PKG-INFO", hint="pin a release that has a wheel")

    def _final(self, file: File, text: str) -> str:
        message = email.parser.HeaderParser(policy=email.policy.compat32).parsestr(text)
        dynamic = {value.lower() for value in message.get_all("Dynamic", [])}
        if message.get("Metadata-Version", "1.0") < "2.2" or dynamic & {"requires-dist", "provides-extra"}:
            raise MetadataUnavailable(
                f"`{file.name}` has no wheel, and its dependencies are known only after a build",
                hint="pin a release that has a wheel",
            )
        return text

    def _page(self, index: Index, key: str) -> tuple[File, ...] | None:
        address = f"{index.url}/{quote(key)}/"
        data = self._fetch(address, index, _MAX_PAGE, accept=_ACCEPT, missing_ok=True)
        if data is None:
            return None
        try:
            files = simplepages.read(data, address, index, key)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise MetadataUnavailable(
                f"the index's page of `{key}` cannot be read: {error}", hint="check that the address is a simple API"
            ) from error
        return tuple(sorted(files, key=lambda file: Version(file.version)))

    def download(self, file: File, limit: int) -> bytes:
        """A whole file, at most *limit* bytes of it. Raises MetadataUnavailable."""
        data = self._fetch(file.url, file.index, limit)
        assert data is not None
        return data

    def _fetch(self, url: str, index: Index, limit: int, *, accept: str = "*/*", missing_ok: bool = False) -> bytes | None:
        answer = self.request(url, index, {"Accept": accept}, missing_ok=missing_ok)
        if answer is None:
            return None
        with contextlib.closing(answer):
            try:
                data: bytes = answer.read(limit + 1)
            except OSError as error:
                raise MetadataUnavailable(f"the index broke off: {error}", hint="try again") from error
        if len(data) > limit:
            raise MetadataUnavailable(f"the index sent more than {limit} bytes for `{urlsplit(url).path.rsplit('/', 1)[-1]}`")
        return data

    def request(self, url: str, index: Index, headers: Mapping[str, str], *, missing_ok: bool = False) -> Any:
        """An open HTTP answer; None for 404 with *missing_ok*. Raises MetadataUnavailable without any credential in it."""
        if self._ended.is_set():
            raise MetadataUnavailable("the command was interrupted")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise MetadataUnavailable(f"the index names a file over `{parts.scheme}`, which is not followed")
        request = urllib.request.Request(url, headers={"User-Agent": "nexus", **headers})  # noqa: S310 the scheme was checked
        if index.authorization and parts.hostname == urlsplit(index.url).hostname:
            request.add_unredirected_header("Authorization", index.authorization)
        try:
            return self._opener.open(request, timeout=self._time_limit_s)
        except urllib.error.HTTPError as error:
            error.close()
            if missing_ok and error.code in (404, 410):
                return None
            raise MetadataUnavailable(
                f"the index answered {error.code} for `{parts.hostname}{parts.path}`", hint=_advice(error.code)
            ) from error
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise MetadataUnavailable(
                f"the index at `{parts.hostname}` does not answer: {reason}", hint="check the network, then repeat"
            ) from error

    def _place(self, file: File) -> Path | None:
        return (
            self._cache / "metadata" / f"{file.sha256}.txt"
            if self._cache is not None and re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            else None
        )

    def _cached(self, file: File) -> str:
        place = self._place(file)
        if place is not None:
            with contextlib.suppress(OSError):
                return place.read_text(encoding="utf-8")
        return ""

    def _kept(self, file: File, text: str) -> str:
        """The text, kept for later; a cache that cannot be written costs only time."""
        place = self._place(file)
        if place is not None:
            with contextlib.suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                durable.write(place, text.encode())
        return text


class _Ranged(io.RawIOBase):
    """A file on the index as a seekable one: `zipfile` reads its directory at the end and one entry, in blocks."""

    _BLOCK = 64 * 1024

    def __init__(self, index: PackageIndex, file: File) -> None:
        self._index, self._file = index, file
        self._position = 0
        self._blocks: dict[int, bytes] = {}
        answer = index.request(file.url, file.index, {"Range": "bytes=0-0"})
        with contextlib.closing(answer):
            total = re.fullmatch(r"bytes 0-0/(\d+)", answer.headers.get("Content-Range", ""))
            if answer.status == 206 and total:
                self._size = int(total[1])
                return
            whole = answer.read(_MAX_ARCHIVE + 1)
        if len(whole) > _MAX_ARCHIVE:
            raise MetadataUnavailable(f"the index cannot send a part of `{file.name}`, and the whole is too large to fetch")
        self._size = len(whole)
        self._blocks = {number: whole[number * self._BLOCK :][: self._BLOCK] for number in range(-(-self._size // self._BLOCK))}

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        parts = []
        while self._position < end:
            number, offset = divmod(self._position, self._BLOCK)
            part = self._block(number)[offset : offset + end - self._position]
            if not part:
                break
            parts.append(part)
            self._position += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            first = number * self._BLOCK
            last = min(first + self._BLOCK, self._size) - 1
            answer = self._index.request(self._file.url, self._file.index, {"Range": f"bytes={first}-{last}"})
            with contextlib.closing(answer):
                self._blocks[number] = answer.read(self._BLOCK) if answer.status == 206 else b""
        return self._blocks[number]


def parse(text: str, name: str, version: str) -> Metadata:
    """Core metadata from a METADATA or PKG-INFO text."""
    message = email.parser.HeaderParser(policy=email.policy.compat32).parsestr(text)
    return Metadata(
        name=canonicalize_name(str(message.get("Name", name))), version=str(message.get("Version", version)), text=text,
        requires_dist=tuple(str(value) for value in message.get_all("Requires-Dist", [])),
        extras=tuple(str(value) for value in message.get_all("Provides-Extra", [])),
        requires_python=str(message.get("Requires-Python", "")),
    )  # fmt: skip


def _same(left: str, right: str) -> bool:
    try:
        return Version(left) == Version(right)
    except InvalidVersion:
        return left == right


def _advice(status: int) -> str:
    if status in (401, 403):
        return "give credentials in uv's environment variables (UV_INDEX_<NAME>_USERNAME and _PASSWORD), netrc or a keyring"
    return "try again later" if status >= 500 else "check the index's address"
