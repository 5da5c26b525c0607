"""The files of a project, from a page of the simple API (JSON: PEP 691, HTML: PEP 503). Pure; used by `packageindex`."""

from __future__ import annotations

import contextlib
import html.parser
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion

from nexus.adapters.indexes import Index


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of a project on an index."""

    name: str
    url: str
    version: str
    sha256: str = ""
    requires_python: str = ""
    uploaded_at: datetime | None = None
    yanked: bool = False
    index: Index

    @property
    def is_wheel(self) -> bool:
        return self.name.endswith(".whl")


def read(data: bytes, address: str, index: Index, key: str) -> list[File]:
    """The files on a page that belong to the project *key*; raises ValueError, KeyError or TypeError when it is no such page."""
    links = _json_links(data) if data.lstrip()[:1] == b"{" else _html_links(data)
    return [file for link in links if (file := _file(link, address, index, key)) is not None]


def _json_links(data: bytes) -> Iterator[dict[str, Any]]:
    for file in json.loads(data)["files"]:
        yield {
            "name": file["filename"],
            "url": file["url"],
            "sha256": (file.get("hashes") or {}).get("sha256", ""),
            "yanked": file.get("yanked") not in (False, None),
            "requires_python": file.get("requires-python") or "",
            "uploaded": file.get("upload-time") or "",
        }


class _Anchors(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def _html_links(data: bytes) -> Iterator[dict[str, Any]]:
    parser = _Anchors()
    parser.feed(data.decode(errors="replace"))
    for anchor in parser.found:
        url, _, fragment = (anchor.get("href") or "").partition("#")
        sha256 = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        yield {
            "name": url.rsplit("/", 1)[-1],
            "url": url,
            "sha256": sha256[1] if sha256 else "",
            "yanked": "data-yanked" in anchor,
            "requires_python": anchor.get("data-requires-python") or "",
            "uploaded": anchor.get("data-upload-time") or "",
        }


def _file(link: Mapping[str, Any], base: str, index: Index, key: str) -> File | None:
    """The file of a link; None for what is no wheel or source archive of this project."""
    name = str(link["name"])
    try:
        project, version = parse_wheel_filename(name)[:2] if name.endswith(".whl") else parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    if project != key:
        return None
    uploaded = None
    with contextlib.suppress(ValueError):
        uploaded = datetime.fromisoformat(link["uploaded"]) if link["uploaded"] else None
    return File(
        name=name,
        url=urljoin(base, str(link["url"])),
        version=str(version),
        sha256=str(link["sha256"]),
        yanked=bool(link["yanked"]),
        requires_python=str(link["requires_python"]),
        uploaded_at=uploaded,
        index=index,
    )
