"""Collecting facts for REQ-1 from real files, an index on loopback and a local Git repository."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from nexus.adapters import distributions
from nexus.adapters.packagefacts import Collector
from nexus.adapters.packageindex import PackageIndex
from nexus.kernel.errors import InvalidInput, MetadataUnavailable
from nexus.variants import packagefacts
from nexus.variants.ports import Target
from tests.contracts.advisory_server import Answer, nobody, serving

TARGETS = (Target(python="3.12", platform="x86_64-manylinux_2_28"),)
METADATA = (
    "Metadata-Version: 2.4\nName: small\nVersion: 1.0\nSummary: Small.\nAuthor: A\n"
    "Project-URL: Documentation, https://example.org\nRequires-Dist: helper-dist\n\nText.\n"
)


def wheel(name: str = "small", metadata: str = METADATA, **modules: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        for path, text in (modules or {name: "import helper\n"}).items():
            archive.writestr(f"{path}/__init__.py", text)
    return buffer.getvalue()


def sdist(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"small-1.0/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


HELPER = METADATA.replace("small", "helper-dist")
FILES = {
    "small-1.0-py3-none-any.whl": wheel(),
    "helper_dist-1.0-py3-none-any.whl": wheel("helper_dist", HELPER, helper=""),
}


class Index:
    """A simple index of two packages that counts what is fetched."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.files = dict(FILES)
        self.corrupt = False

    def __call__(self, path: str, _: object) -> Answer:
        self.asked.append(path)
        if path in ("/simple/small/", "/simple/helper-dist/"):
            name = path.split("/")[2].replace("-", "_")
            listed = [
                {"filename": file, "url": f"/files/{file}", "upload-time": "2026-01-01T00:00:00Z",
                 "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
                for file, data in self.files.items() if file.startswith(name)
            ]  # fmt: skip
            return 200, json.dumps({"files": listed}).encode()
        name = path.rpartition("/")[2]
        if name not in self.files:
            return 404, b""
        return 200, self.files[name] + (b"changed" if self.corrupt else b"")


def collector(address: str, cache: Path | None = None) -> Collector:
    return Collector(index=PackageIndex(environ={"UV_DEFAULT_INDEX": f"{address}/simple"}), cache=cache)


def codes(held: packagefacts.Facts) -> list[str]:
    return [finding.code for finding in packagefacts.check(held, TARGETS)]


def test_an_index_gives_everything_and_places_imports_by_the_files_of_dependencies() -> None:
    """`helper` is provided by `helper-dist`: found by looking into that wheel, so nothing is missing."""
    with serving(Index()) as address:
        assert codes(collector(address).collect("Small")) == []


def test_a_second_check_downloads_no_file(tmp_path: Path) -> None:
    """What a file says is kept under its hash."""
    index = Index()
    with serving(index) as address:
        first = collector(address, tmp_path).collect("small")
        index.asked.clear()
        assert collector(address, tmp_path).collect("small") == first
    assert [path for path in index.asked if path.startswith("/files/")] == []


def test_what_another_version_kept_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of Nexus, or of Python, judges with its own knowledge and not with what was known before."""
    index = Index()
    with serving(index) as address:
        collector(address, tmp_path).collect("small")
        index.asked.clear()
        monkeypatch.setattr("nexus.adapters.packagefacts.READER", "later")
        collector(address, tmp_path).collect("small")
    assert [path for path in index.asked if path.startswith("/files/")]


def test_a_file_that_is_not_what_the_index_says_could_not_be_checked() -> None:
    """A wrong hash makes the imports unchecked: an error, not a pass."""
    index = Index()
    index.corrupt = True
    with serving(index) as address:
        held = collector(address).collect("small")
    assert "SHA-256" in held.unchecked.get("imports", "") + held.unchecked.get("metadata", "")
    assert "NX-R09" in codes(held)


def test_a_file_that_is_gone_could_not_be_checked() -> None:
    """An index that fails half-way leaves an error for what is missing."""
    index = Index()
    with serving(index) as address:
        held_by = collector(address)
        held_by.index.files("small")
        del index.files["small-1.0-py3-none-any.whl"]
        assert "NX-R09" in codes(held_by.collect("small"))


def test_no_index_is_an_error_without_credentials_in_it() -> None:
    """Nobody answers: MetadataUnavailable, and no password in its text."""
    with nobody() as address, pytest.raises(MetadataUnavailable) as caught:
        collector(address.replace("http://", "http://user:hunter2@")).collect("small")
    assert "hunter2" not in caught.value.text()


def test_a_wheel_on_disk_is_checked_and_its_releases_come_from_the_index(tmp_path: Path) -> None:
    """A local wheel passes when the index knows its releases; without an index its releases could not be checked."""
    path = tmp_path / "small-1.0-py3-none-any.whl"
    path.write_bytes(FILES[path.name])
    with serving(Index()) as address:
        assert codes(collector(address).collect("small", str(path))) == []
    with nobody() as address:
        assert "NX-R09" in codes(collector(address).collect("small", str(path)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04", "cannot be read"),
        (wheel().replace(b"METADATA", b"METADATB"), "METADATA"),
        (wheel()[:-30], "cannot be read"),
    ],
)
def test_a_broken_wheel_is_an_error(data: bytes, why: str) -> None:
    """Truncated, empty and headless wheels are refused with a reason."""
    with pytest.raises(MetadataUnavailable, match=why):
        distributions.read_wheel(data, "small-1.0-py3-none-any.whl")


def test_a_wheel_that_unpacks_to_gigabytes_is_refused() -> None:
    """Modules beyond the limit are not read; the wheel is refused or the module named as unreadable."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small-1.0.dist-info/METADATA", METADATA)
        archive.writestr("small/__init__.py", b"#" * (32 << 20))
    contents = distributions.read_wheel(buffer.getvalue(), "small-1.0-py3-none-any.whl")
    assert contents.unreadable == ("small/__init__.py",)


def test_a_source_archive_is_believed_only_where_its_metadata_is_final() -> None:
    """PKG-INFO 2.2 is final, a static `[project]` too; dynamic metadata is not, and no metadata at all is an error."""
    final = METADATA.replace("2.4", "2.2")
    assert distributions.read_sdist(sdist(**{"PKG-INFO": final, "small/__init__.py": "import numpy"}), "s.tar.gz").final
    assert not distributions.read_sdist(sdist(**{"PKG-INFO": METADATA.replace("2.4", "2.1")}), "s.tar.gz").final
    assert not distributions.read_sdist(
        sdist(**{"PKG-INFO": final.replace("Name", "Dynamic: Requires-Dist\nName")}), "s.tar.gz"
    ).final
    project = '[project]\nname = "small"\nversion = "1.0"\ndependencies = ["numpy"]\n[project.urls]\nDocs = "https://example.org"\n'
    held = distributions.read_sdist(
        sdist(**{"pyproject.toml": project, "src/small/__init__.py": "import numpy", "setup.py": "import x"}), "s.tar.gz"
    )
    assert held.final
    assert [item.name for item in held.imports] == ["numpy"]
    assert packagefacts.read_headers(held.metadata).requires == ("numpy",)
    assert not distributions.read_sdist(
        sdist(**{"pyproject.toml": project.replace("dependencies", "dynamic = ['version']\ndependencies")}), "s.tar.gz"
    ).final
    with pytest.raises(MetadataUnavailable, match="known only after a build"):
        distributions.read_sdist(sdist(**{"setup.py": "raise SystemExit('executed')"}), "s.tar.gz")


def test_nothing_of_a_package_is_executed(tmp_path: Path) -> None:
    """A folder whose every module writes a file when run or imported is read without one appearing."""
    mark = tmp_path / "executed"
    source = tmp_path / "small"
    (source / "small").mkdir(parents=True)
    bomb = f"open({str(mark)!r}, 'w')\n"
    for name in ("setup.py", "small/__init__.py", "conftest.py"):
        (source / name).write_text(bomb)
    (source / "pyproject.toml").write_text('[project]\nname = "small"\nversion = "1.0"\n')
    with serving(Index()) as address:
        collector(address).collect("small", str(source))
    assert not mark.exists()


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


def test_a_git_reference_gives_metadata_of_its_commit_and_releases_from_tags(tmp_path: Path) -> None:
    """The tree of the revision is read without a checkout; `v1.0` and `v1.1` are its releases."""
    repository = tmp_path / "repository"
    (repository / "small").mkdir(parents=True)
    (repository / "small" / "__init__.py").write_text("")
    git(repository, "init", "-q", "-b", "main")
    for version in ("1.0", "1.1"):
        urls = '[project.urls]\nDocumentation = "https://example.org"\n'
        head = f'[project]\nname = "small"\nversion = "{version}"\ndescription = "S."\nreadme = "R"\n'
        text = f'{head}authors = [{{name = "A"}}]\n{urls}'
        (repository / "pyproject.toml").write_text(text)
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", version)
        git(repository, "tag", "-a", f"v{version}", "-m", version)
    with serving(Index()) as address:
        held = collector(address).collect("small", f"git+file://{repository}@v1.0")
    assert packagefacts.read_headers(held.metadata).version == "1.0"
    assert [release.version for release in held.releases] == ["1.0", "1.1"]
    assert codes(held) == ["NX-R09"]  # the warning that a source tells of no wheel
    with serving(Index()) as address, pytest.raises(MetadataUnavailable, match="could not be read"):
        collector(address).collect("small", f"git+file://{repository}@v9")


@pytest.mark.parametrize(
    "source", ["git+ext::sh -c touch", "git+https://", "git+file:///x@--upload-pack=touch", "nowhere.whl", "/etc/passwd"]
)
def test_other_sources_are_refused(source: str) -> None:
    """Transports that run commands, options in disguise and files that are no distribution are refused."""
    with serving(Index()) as address, pytest.raises(InvalidInput):
        collector(address).collect("small", source)
