"""Where `nexus advisories update` gets advisories: a folder, an archive (on disk or at an address), OSV, PyPI's own field."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from nexus.adapters import advisories, auditfiles, indexes, osv, pypi
from nexus.adapters.advisories import Reading
from nexus.adapters.advisoryservice import exchange
from nexus.kernel.errors import InvalidInput, Unavailable

MAX_ARCHIVE_BYTES = 512 * 1024 * 1024
_ARCHIVE_LIMIT_S = 600.0


def fetch(source: str, root: Path, locks: Sequence[Path], service: str | None = None) -> Reading:
    """What *source* says. Services are asked about the packages that *locks* pin. Raises Unavailable or InvalidInput."""
    if source in ("osv", "pypi"):
        pins = auditfiles.packages_of(locks)
        if not pins:
            raise InvalidInput(
                f"`{source}` is asked about pinned packages, and there is no lock",
                hint="give one with `-r`, or resolve the variants",
            )
        if source == "osv":
            return osv.fetch(pins, service or osv.SERVICE)
        return pypi.fetch(pins, service or pypi.service_of(indexes.configured(os.environ)[-1].url))
    if source.startswith(("https://", "http://")):
        return _download(source)
    path = root / source
    if not path.exists():
        raise InvalidInput(
            f"the source `{source}` does not exist", hint="give a folder, an archive, an https address, `osv` or `pypi`"
        )
    return advisories.read_sources([path])


def _download(address: str) -> Reading:
    """The archive at *address*, kept only while it is read."""
    name = Path(urlsplit(address).path).name
    if not name.endswith(advisories.ARCHIVES):
        raise InvalidInput(f"the address names no archive: `{name}`", hint=f"an archive ends in {', '.join(advisories.ARCHIVES)}")
    data = exchange(address, limit=MAX_ARCHIVE_BYTES, time_limit_s=_ARCHIVE_LIMIT_S)
    if data is None:
        raise Unavailable("there is no archive at this address (404)", hint="the old snapshot stays as it is")
    with tempfile.TemporaryDirectory(prefix="nexus-advisories-") as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return advisories.read_sources([path])
