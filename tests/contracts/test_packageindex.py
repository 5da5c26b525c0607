"""The index reader keeps the promises of PackageMetadata.

The tests that need packages use small real ones from the configured index and are skipped, with the reason, when it does not
answer.
"""

from __future__ import annotations

import base64
import functools
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from nexus.adapters.packageindex import PackageIndex
from nexus.kernel.errors import MetadataUnavailable, NexusError
from nexus.variants import classes
from nexus.variants.classes import PackageClass
from tests.contracts.test_uv import LINUX
from tests.contracts.wheel_index import Local

T = TypeVar("T")


def index(local: Local, credentials: str = "") -> PackageIndex:
    return PackageIndex(environ=local.environ(credentials), cache=local.folder / "kept")


def test_releases_come_oldest_first(local: Local) -> None:
    """A project's releases are read from the simple API."""
    assert [release.version for release in index(local).releases("Left")] == ["1.0", "2.0"]


def test_metadata_is_read_from_a_part_of_the_wheel_and_kept(local: Local) -> None:
    """M2: without a sidecar file the wheel is read in ranges; a second reader takes it from the cache."""
    found = index(local).metadata("right", "1.0")
    assert (found.requires_dist, found.extras) == (("shared>=2", 'left[fast] ; extra == "all"'), ("all",))
    before = len([line for line in local.log if line.startswith("/files/")])
    assert index(local).metadata("right", "1.0") == found
    assert len([line for line in local.log if line.startswith("/files/")]) == before


@pytest.mark.parametrize(
    ("name", "version"), [("nobody-has-this", "1"), ("left", "9"), ("../../etc/passwd", "1"), ("-e", "1"), ("a\nb", "1")]
)
def test_what_is_not_there_is_an_error(local: Local, name: str, version: str) -> None:
    """M1: unknown and hostile names and versions are refused."""
    with pytest.raises(MetadataUnavailable):
        index(local).metadata(name, version)


def test_a_broken_index_is_an_error_without_credentials(local: Local) -> None:
    """M3, M4: an outage is raised, and the password stays out of it."""
    local.broken.set()
    with pytest.raises(MetadataUnavailable) as caught:
        index(local, "ann:s3cret@").releases("left")
    assert "s3cret" not in caught.value.text()
    assert any(base64.b64encode(b"ann:s3cret").decode() in line for line in local.log)


def test_a_damaged_wheel_is_an_error(local: Local) -> None:
    """A file that is no archive is reported by its name."""
    (local.folder / "left-3.0-py3-none-any.whl").write_bytes(b"not a zip archive at all")
    with pytest.raises(MetadataUnavailable) as caught:
        index(local).metadata("left", "3.0")
    assert "left-3.0" in caught.value.message


def test_a_git_source_is_read_at_its_commit_without_a_build(tmp_path: Path) -> None:
    """The static table of its `pyproject.toml` gives dependencies and extras; a dynamic one is refused."""
    repository = tmp_path / "lib"
    repository.mkdir()
    extras = "[project.optional-dependencies]\nvllm = [\"vllm>=0.9 ; python_version > '3.10'\"]\n"
    text = f'[project]\nname = "lib"\nversion = "1"\ndependencies = ["idna"]\n{extras}'

    def commit(content: str) -> str:
        (repository / "pyproject.toml").write_text(content)
        git = ["git", "-C", str(repository), "-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run([*git, "add", "-A"], check=True, capture_output=True)
        subprocess.run([*git, "commit", "-qm", "x"], check=True, capture_output=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    subprocess.run(["git", "init", "-q", str(repository)], check=True, capture_output=True)
    first = commit(text)
    reader = PackageIndex(environ={"HOME": str(tmp_path)})
    found = reader.source("lib", f"git+file://{repository}@{first}")
    assert classes.classify(found, "vllm", (LINUX,)).kind is PackageClass.AGNOSTIC
    second = commit('[project]\nname = "lib"\nversion = "1"\ndynamic = ["dependencies"]\n')
    with pytest.raises(MetadataUnavailable):
        reader.source("lib", f"git+file://{repository}@{second}")
    with pytest.raises(MetadataUnavailable):
        reader.source("lib", f"git+file://{repository}@main")


@functools.cache
def _unreachable() -> str:
    try:
        PackageIndex(time_limit_s=10).releases("idna")
    except NexusError as error:
        return error.message
    return ""


@pytest.fixture
def real() -> PackageIndex:
    if reason := _unreachable():
        pytest.skip(f"needs the configured package index: {reason}")
    return PackageIndex(time_limit_s=60)


def insisting(call: Callable[[], T]) -> T:
    """What the index gives; it is not ours, and may be asked again when it leaves a question without an answer."""
    for pause_s in (1, 5, 20):
        try:
            return call()
        except MetadataUnavailable:
            time.sleep(pause_s)
    return call()


def test_the_real_vllm_is_the_engine(real: PackageIndex) -> None:
    """Once, on real metadata: vllm pins torch, and no wheel of either is fetched for it."""
    release = insisting(lambda: [one for one in real.releases("vllm") if not one.yanked][-1])
    found = insisting(lambda: real.metadata("vllm", release.version))
    assert classes.classify(found, "torch", (LINUX,)).kind is PackageClass.DEPENDENT
    assert found.requires_python


def test_the_classes_of_real_packages(real: PackageIndex) -> None:
    """jinja2 brings babel with its extra `i18n`, markupsafe always, idna never."""
    kinds = {}
    for engine in ("babel", "markupsafe", "idna"):
        standing = classes.classify(insisting(lambda: real.metadata("jinja2", "3.1.6")), engine, (LINUX,))
        kinds[engine] = (standing.kind, standing.extras)
    assert kinds == {
        "babel": (PackageClass.AGNOSTIC, ("i18n",)),
        "markupsafe": (PackageClass.DEPENDENT, ()),
        "idna": (PackageClass.ECOSYSTEM_ONLY, ()),
    }
