"""An index of small wheels on loopback, made for a test, and a uv that knows no other."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http.server
import io
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

from nexus.adapters.uv import Uv


def wheel(folder: Path, name: str, version: str, *asked: str, extras: tuple[str, ...] = (), tag: str = "py3-none-any") -> Path:
    """A wheel that holds nothing but its metadata."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in asked)]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    files = {
        f"{stem}.dist-info/METADATA": "\n".join(lines) + "\n",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        record = []
        for inner, text in files.items():
            archive.writestr(inner, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{inner},sha256={digest},{len(text)}")
        archive.writestr(f"{stem}.dist-info/RECORD", "\n".join([*record, f"{stem}.dist-info/RECORD,,"]) + "\n")
    return path


def archive(folder: Path, name: str, version: str, mark: Path) -> Path:
    """A source archive whose dependencies only a build tells; the build leaves a mark."""
    stem = f"{name}-{version}"
    path = folder / f"{stem}.tar.gz"
    described = f'[project]\nname = "{name}"\ndynamic = ["version", "dependencies"]\n'
    described += '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    backend = (
        f"import pathlib\npathlib.Path({str(mark)!r}).write_text('built')\n"
        "def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        f"    place = pathlib.Path(folder) / {info!r}\n    place.mkdir()\n"
        f"    (place / 'METADATA').write_text({metadata!r})\n    return {info!r}\n"
    )
    with tarfile.open(path, "w:gz") as held:
        for inner, text in {"pyproject.toml": described, "PKG-INFO": metadata, "backend.py": backend}.items():
            entry = tarfile.TarInfo(f"{stem}/{inner}")
            entry.size = len(text.encode())
            held.addfile(entry, io.BytesIO(text.encode()))
    return path


class _Index(http.server.BaseHTTPRequestHandler):
    """A simple API over a folder of wheels, with ranged reads and no sidecar files; counts what it was asked."""

    def __init__(self, folder: Path, log: list[str], broken: threading.Event, *rest: object) -> None:
        self.folder, self.log, self.broken = folder, log, broken
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.log.append(f"{self.path} {self.headers.get('Authorization', '')}".strip())
        if self.broken.is_set():
            self.send_error(503)
        elif self.path.startswith("/simple/"):
            self._page(self.path.split("/")[2])
        else:
            self._file(self.folder / self.path.rsplit("/", 1)[-1])

    do_HEAD = do_GET

    def _page(self, name: str) -> None:
        files = sorted([*self.folder.glob("*.whl"), *self.folder.glob("*.tar.gz")])
        held = [path for path in files if re.split(r"-\d", path.name)[0].replace("_", "-") == name]
        links = [
            f'<a href="/files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>' for path in held
        ]
        if held:
            self._send(200, "\n".join(["<!DOCTYPE html><html><body>", *links, "</body></html>"]).encode(), "text/html")
        else:
            self.send_error(404)

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self.send_error(404)
            return
        data, asked = path.read_bytes(), self.headers.get("Range")
        if not asked:
            self._send(200, data, "application/zip")
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = (
            (int(first), min(int(last or len(data) - 1), len(data) - 1))
            if first
            else (max(len(data) - int(last), 0), len(data) - 1)
        )
        self._send(206, data[start : end + 1], "application/zip", f"bytes {start}-{end}/{len(data)}")

    def _send(self, status: int, data: bytes, kind: str, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Local:
    """A running index of wheels, and a uv that knows no other."""

    def __init__(self, folder: Path, port: int, log: list[str], broken: threading.Event) -> None:
        self.folder, self.port, self.log, self.broken = folder, port, log, broken

    def environ(self, credentials: str = "") -> dict[str, str]:
        address = f"http://{credentials}127.0.0.1:{self.port}/simple"
        cache = str(self.folder / "cache")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "UV_DEFAULT_INDEX": address,
            "UV_CACHE_DIR": cache,
            "UV_HTTP_RETRIES": "0",
        }

    def uv(self, credentials: str = "", **options: object) -> Uv:
        return Uv(environ=self.environ(credentials), **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def served(tmp_path: Path) -> Iterator[Local]:
    """The index, running, with its wheels under *tmp_path*."""
    log: list[str] = []
    broken = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Index, tmp_path, log, broken))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    wheel(tmp_path, "left", "1.0", "shared<2")
    wheel(tmp_path, "left", "2.0", "shared>=2")
    wheel(tmp_path, "right", "1.0", "shared>=2", 'left[fast] ; extra == "all"', extras=("all",))
    wheel(tmp_path, "shared", "1.0")
    wheel(tmp_path, "shared", "2.0")
    wheel(tmp_path, "windows-only", "1.0", tag="py3-none-win_amd64")
    yield Local(tmp_path, server.server_address[1], log, broken)
    server.shutdown()
    thread.join()
    server.server_close()
