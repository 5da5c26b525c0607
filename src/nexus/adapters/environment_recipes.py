"""What a local environment is made of: which files decide, which interpreter, which packages; and our own SDK as a wheel.

Read by `environments`, which builds. A project that requires `algorithm-nexus` gets the running installation: it is on no
index, and a package of that name on one must not be mistaken for it, so it is installed by its path.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

import nexus
from nexus.runs.ports import LaunchFailed

_FORMAT = "2"  # part of every key: raise it when the way of building changes
OURS = "algorithm-nexus"
_OURS_LINE = re.compile(r"algorithm[-_.]nexus(?![-_.\w])", re.IGNORECASE)
_LOCATED_LINE = re.compile(r"-e|--editable|\.|/|file:|\S+\s*@\s*file:")
_INCLUDE_LINE = re.compile(r"(?:-r|-c|--requirements?|--constraints?)[ =]?\s*(\S+)")
_SKIPPED_FOLDERS = frozenset(
    {".git", ".venv", "venv", "__pycache__", "node_modules", ".tox", ".mypy_cache", ".ruff_cache", "build", "dist"}
)
_LARGEST_SOURCE_BYTES = 64 << 20
_MOST_FILES = 20_000


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What to install.

    ``base`` is the folder relative paths count from; ``content`` the digest of every file that decides; ``package`` a project
    that is installed itself.
    """

    name: str
    base: Path
    python: str
    content: str
    requirements: tuple[Path, ...] = ()
    hashed: bool = False
    lock: Path | None = None
    package: Path | None = None
    wheel: Path | None = None

    @property
    def wheel_requirement(self) -> str:
        """Our own wheel as a requirement that no index can answer."""
        assert self.wheel is not None
        return f"{OURS} @ {self.wheel.as_uri()}"

    def key(self, interpreter: str, gate: str = "") -> str:
        """The environment's name: the same for the same content and interpreter, admitted by the same gate."""
        real = str(Path(interpreter).resolve())
        parts = [_FORMAT, real, self.content, self.wheel.parent.name if self.wheel else "", *([gate] if gate else [])]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def signature(local: Mapping[str, str]) -> tuple[object, ...]:
    """Changes whenever the content of a recipe may have: names, sizes and times of the files, without reading them."""
    files = [path for path in _deciding_files(local) if path.exists()]
    stats = tuple((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino) for path in files for stat in [path.stat()])
    return (tuple(sorted(local.items())), stats)


def read_recipe(local: Mapping[str, str], wheels: WheelMaker) -> Recipe:
    """What these annotations ask to be installed. Raises LaunchFailed for files that are missing or unreadable."""
    project = _folder(local.get("project"))
    described = _described(project) if project else {}
    listed = _listed(local, project)
    texts = [text for path in listed for text in _lines(path)]
    lock = project / "uv.lock" if project and not listed and (project / "uv.lock").exists() else None
    dependencies = [str(item) for item in described.get("project", {}).get("dependencies", [])]
    loose = [project / "pyproject.toml"] if project and not listed and lock is None and dependencies else []
    ours = any(_OURS_LINE.match(text) for text in [*texts, *dependencies])
    base = project or (listed[0].parent if listed else Path("/"))
    located = "tool" in described or any(_LOCATED_LINE.match(text) for text in [*texts, *dependencies])
    return Recipe(
        base=base,
        name=Path(local.get("project") or local.get("requirements") or f"Python {local.get('python')}").name,
        python=local.get("python") or _default_python(described),
        content=_digest(local, base, located=located),
        requirements=(*listed, *loose),
        hashed=any("--hash=" in text for text in texts),
        lock=lock,
        package=project if project and "build-system" in described else None,
        wheel=wheels.wheel() if ours else None,
    )


class WheelMaker:
    """Makes a wheel of the running installation, once, editable or not, under *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: Path | None = None
        self._guard = threading.Lock()

    def wheel(self) -> Path:
        """The wheel, in a folder named by its content. Raises LaunchFailed when the installation has no metadata."""
        with self._guard:
            if self._made is None or not self._made.exists():
                content = _wheel_bytes()
                folder = self._folder / hashlib.sha256(content).hexdigest()[:32]
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"algorithm_nexus-{nexus.__version__}-py3-none-any.whl"
                temporary = path.with_suffix(f".{os.getpid()}.tmp")
                temporary.write_bytes(content)
                temporary.rename(path)
                self._made = path
            return self._made


def _wheel_bytes() -> bytes:
    """Our package as a wheel (binary distribution format 1.0), the same bytes for the same files."""
    files = {
        f"nexus/{path.relative_to(root).as_posix()}": path.read_bytes() for root in [_package()] for path in _package_files(root)
    }
    info = f"algorithm_nexus-{nexus.__version__}.dist-info"
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: nexus\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nnexus = nexus.cli.main:main\n"
    rows = [f"{name},sha256={_record_hash(content)},{len(content)}" for name, content in files.items()]
    files[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,"]) + "\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _metadata() -> str:
    import importlib.metadata  # slow to import, and few services need it

    try:
        distribution = importlib.metadata.distribution(OURS)
    except importlib.metadata.PackageNotFoundError as error:
        raise LaunchFailed(
            f"a project requires `{OURS}`, but this service runs from files that are not installed",
            "install it where the service runs: pip install algorithm-nexus",
        ) from error
    requires = [f"Requires-Dist: {line}" for line in distribution.requires or ()]
    extras = [f"Provides-Extra: {name}" for name in distribution.metadata.get_all("Provides-Extra") or ()]
    head = ["Metadata-Version: 2.1", f"Name: {OURS}", f"Version: {nexus.__version__}", "Requires-Python: >=3.11"]
    return "\n".join([*head, *requires, *extras]) + "\n"


def _package() -> Path:
    return Path(nexus.__file__).resolve().parent


def _package_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc")


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


# ── the files that decide ─────────────────────────────────────────────────────────────────────────────────────────────


def _deciding_files(local: Mapping[str, str]) -> list[Path]:
    """Requirement files with what they include, and of a project its description, lock and, if it is installed, its sources."""
    project = Path(local["project"]) if "project" in local else None
    files = _with_includes(_listed(local, project))
    if project is not None:
        files += [project / "pyproject.toml", project / "uv.lock"]
        if "build-system" in _described(project):
            files += _sources(project)
    return sorted(set(files))


def _digest(local: Mapping[str, str], base: Path, *, located: bool) -> str:
    """The same for the same content in another folder, unless it refers to files beside it (*located*)."""
    digest = hashlib.sha256(str(base).encode() if located else b"")
    for path in _deciding_files(local):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{os.path.relpath(path, base)}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def _listed(local: Mapping[str, str], project: Path | None) -> list[Path]:
    """Requirement files: the one that is named, else the project's own."""
    if "requirements" in local:
        path = Path(local["requirements"])
        if not path.is_file():
            raise LaunchFailed(f"the requirements file `{path}` does not exist", "it is named by `local.nexus/requirements`")
        return [path]
    own = project / "requirements.txt" if project else None
    return [own] if own and own.is_file() else []


def _with_includes(files: list[Path]) -> list[Path]:
    found: list[Path] = []
    pending = list(files)
    while pending:
        path = pending.pop()
        if path in found or not path.is_file() or len(found) >= _MOST_FILES:
            continue
        found.append(path)
        pending += [path.parent / match[1] for text in _lines(path) if (match := _INCLUDE_LINE.match(text))]
    return found


def _sources(project: Path) -> list[Path]:
    found: list[Path] = []
    size = 0
    for path in _walk(project):
        found.append(path)
        size += path.stat().st_size
        if len(found) > _MOST_FILES or size > _LARGEST_SOURCE_BYTES:
            raise LaunchFailed(
                f"the project `{project}` is too large to be installed for a run",
                f"it holds over {_MOST_FILES} files or {_LARGEST_SOURCE_BYTES >> 20} MiB; keep data out of the project's folder",
            )
    return found


def _walk(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in _SKIPPED_FOLDERS and not name.endswith(".egg-info")]
        yield from (path for name in files if (path := Path(folder, name)).is_file() and path.suffix != ".pyc")


def _folder(text: str | None) -> Path | None:
    if text is None:
        return None
    if not Path(text).is_dir():
        raise LaunchFailed(f"the project folder `{text}` does not exist", "it is named by `local.nexus/project`")
    return Path(text)


def _described(project: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LaunchFailed(f"`{project / 'pyproject.toml'}` cannot be read", str(error)) from error


def _lines(path: Path) -> list[str]:
    """Lines of a requirements file without comments."""
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise LaunchFailed(f"`{path}` cannot be read", str(error)) from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _default_python(described: Mapping[str, Any]) -> str:
    """What the project requires, else the version this service runs on."""
    wanted = described.get("project", {}).get("requires-python")
    running = ".".join(map(str, sys.version_info[:3]))
    if wanted is None or _satisfied(str(wanted), running):
        return ".".join(map(str, sys.version_info[:2]))
    return str(wanted)


def _satisfied(specifier: str, version: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return version in SpecifierSet(specifier)
    except InvalidSpecifier as error:
        raise LaunchFailed(
            f"`requires-python = {specifier!r}` is no version specifier", "example: requires-python = '>=3.11'"
        ) from error
