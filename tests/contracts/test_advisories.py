"""Folders, archives and snapshots of advisories on a real disk: what is read, refused and written."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nexus.adapters import advisories, durable
from nexus.kernel.errors import AdvisoriesUnusable, InvalidInput

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def record(identity: str = "A-1", package: str = "idna", fixed: str = "3.7") -> str:
    return (
        f"id: {identity}\nmodified: 2026-11-20T00:00:00Z\naffected:\n- package: {{ecosystem: PyPI, name: {package}}}\n"
        f'  ranges:\n  - type: ECOSYSTEM\n    events:\n    - introduced: "0"\n    - fixed: "{fixed}"\n'
    )


def folder(root: Path, **files: str) -> Path:
    """A folder of records; names are given without their suffix."""
    root.mkdir()
    for name, text in files.items():
        (root / f"{name}.yaml").write_text(text)
    return root


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def saved(source: Path, target: Path) -> advisories.Snapshot:
    reading = advisories.read_sources([source], complete=True)
    return advisories.save(target, *advisories.make(reading, now=NOW))


def test_folder_zip_and_tarball_of_the_same_records_say_the_same(tmp_path: Path) -> None:
    """The form of the source does not matter; hidden folders and other files are left out."""
    source = folder(tmp_path / "db", one=record(), two=record("A-2", "rich"))
    (source / ".git").mkdir()
    (source / ".git" / "config.yaml").write_text("no: record")
    (source / "README.md").write_text("no record")
    members = {f"db/{name}.yaml": (source / f"{name}.yaml").read_bytes() for name in ("one", "two")}
    readings = [
        advisories.read_sources([path], complete=True)
        for path in (
            source,
            zipped(tmp_path / "db.zip", members),
            tarred(tmp_path / "db.tar.gz", [(tarfile.TarInfo(name), data) for name, data in members.items()]),
        )
    ]
    assert [reading.findings for reading in readings] == [(), (), ()]
    assert {tuple(sorted(item.id for item in reading.advisories)) for reading in readings} == {("A-1", "A-2")}
    assert [reading.sources[0].kind for reading in readings] == ["folder", "archive", "archive"]
    assert all(reading.covers is None for reading in readings)


def test_one_record_covers_its_package_and_no_other(tmp_path: Path) -> None:
    """A single file, or a source said to be partial, claims nothing of packages it does not name."""
    source = folder(tmp_path / "db", one=record())
    assert advisories.read_sources([source / "one.yaml"], complete=True).covers == {"idna"}
    assert advisories.read_sources([source], complete=False).covers == {"idna"}


def test_a_few_records_do_not_speak_for_an_ecosystem(tmp_path: Path) -> None:
    """A folder of two records covers two packages unless somebody says that this is all there is."""
    source = folder(tmp_path / "db", one=record(), two=record("A-2", "rich"))
    assert advisories.read_sources([source]).covers == {"idna", "rich"}
    assert advisories.read_sources([source], complete=True).covers is None
    many = zipped(tmp_path / "all.zip", {f"{number}.yaml": record(f"A-{number}", f"p{number}").encode() for number in range(1000)})
    assert advisories.read_sources([many]).covers is None


def test_all_bad_records_are_found_at_once(tmp_path: Path) -> None:
    """Broken YAML, wrong types, a record that is too large and one that is not UTF-8: each is a finding of its file."""
    source = folder(
        tmp_path / "db", good=record(), tab="id:\tx\n\ty: z\n", types="id: 7\naffected: 3\n", twin=record("A-1", fixed="9")
    )
    (source / "large.yaml").write_bytes(b"#" * (advisories.MAX_RECORD_BYTES + 1))
    (source / "latin.yaml").write_bytes(b"id: \xe9\n")
    (source / "bad.json").write_text("{")
    reading = advisories.read_sources([source])
    assert set(reading.failed) == {"tab.yaml", "types.yaml", "twin.yaml", "large.yaml", "latin.yaml", "bad.json"}
    assert [item.id for item in reading.advisories] == ["A-1"]


def test_links_in_a_folder_are_findings_and_not_followed(tmp_path: Path) -> None:
    """A link to a file or folder elsewhere is refused; a fifo does not hang the reader."""
    outside = folder(tmp_path / "outside", secret=record("SECRET-1"))
    source = folder(tmp_path / "db", one=record())
    (source / "link.yaml").symlink_to(outside / "secret.yaml")
    (source / "folder").symlink_to(outside)
    os.mkfifo(source / "pipe.yaml")
    reading = advisories.read_sources([source])
    assert [item.id for item in reading.advisories] == ["A-1"]
    assert set(reading.failed) == {"link.yaml", "folder", "pipe.yaml"}


@pytest.mark.parametrize("name", ["../evil.yaml", "/etc/evil.yaml", "a/../../evil.yaml", "C:/evil.yaml", "..\\evil.yaml"])
def test_names_that_point_out_of_an_archive_are_findings(tmp_path: Path, name: str) -> None:
    """Zip slip and its relatives are reported, in zips and tarballs; nothing is unpacked anyway."""
    for path in (
        zipped(tmp_path / "a.zip", {name: record().encode(), "good.yaml": record("A-2").encode()}),
        tarred(
            tmp_path / "a.tar.gz", [(tarfile.TarInfo(name), record().encode()), (tarfile.TarInfo("g.yaml"), record("A-2").encode())]
        ),
    ):
        reading = advisories.read_sources([path])
        assert [finding.code for finding in reading.findings] == ["NX-A09"]
        assert [item.id for item in reading.advisories] == ["A-2"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.tar.gz", "a.zip"]


def test_names_and_values_cannot_move_the_cursor(tmp_path: Path) -> None:
    """Escape sequences in a member's name or in a record are shown as replacement characters."""
    path = zipped(tmp_path / "a.zip", {"\x1b[2Jevil.yaml": b'id: "\\e[31m"\naffected: 1\n', "../\x1b[2J.yaml": b""})
    text = "".join(finding.text() for finding in advisories.read_sources([path]).findings)
    assert "evil" in text
    assert "\x1b" not in text


def test_a_zip_bomb_is_a_finding(tmp_path: Path) -> None:
    """A member that unpacks to hundreds of times its size is not unpacked."""
    path = zipped(tmp_path / "a.zip", {"bomb.yaml": b" " * (advisories.MAX_RECORD_BYTES - 1), "large.json": b" " * (64 << 20)})
    assert set(advisories.read_sources([path]).failed) == {"bomb.yaml", "large.json"}


def test_a_tar_bomb_is_refused(tmp_path: Path) -> None:
    """A tarball that unpacks to hundreds of times its size is refused before it is read through."""
    path = tarred(tmp_path / "a.tar.gz", [(tarfile.TarInfo(f"{number}.bin"), b"\0" * (8 << 20)) for number in range(4)])
    with pytest.raises(InvalidInput, match="bomb"):
        advisories.read_sources([path])


def test_links_and_devices_in_a_tarball_are_findings(tmp_path: Path) -> None:
    """Only regular files of an archive are records."""
    link, device = tarfile.TarInfo("link.yaml"), tarfile.TarInfo("device.yaml")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    path = tarred(tmp_path / "a.tar.gz", [(link, b""), (device, b"")])
    assert set(advisories.read_sources([path]).failed) == {"link.yaml", "device.yaml"}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tgz"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", b"\x1f\x8b\x08\x00 broken", b"<html>not found</html>"])
def test_a_broken_archive_is_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    """An archive that cannot be read, or an error page saved under its name, is an error with a hint."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="cannot be read"):
        advisories.read_sources([path])


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    """A download that broke off is refused whole, not read half."""
    whole = tarred(
        tmp_path / "a.tar.gz",
        [
            (tarfile.TarInfo(f"{n}.yaml"), record(f"A-{n}").encode() + os.urandom(500).hex().encode().join([b"# ", b"\n"]))
            for n in range(200)
        ],
    )
    half = tmp_path / "half.tar.gz"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InvalidInput, match="cannot be read"):
        advisories.read_sources([half])


def test_a_source_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A text file is no source."""
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InvalidInput, match="no folder, no archive"):
        advisories.read_sources([tmp_path / "a.txt"])


def test_a_snapshot_is_written_and_read_back(tmp_path: Path) -> None:
    """What was imported is what is read, under the same id, from the folder and from an archive of it."""
    written = saved(folder(tmp_path / "db", one=record()), tmp_path / "snapshot")
    read = advisories.load(tmp_path / "snapshot")
    assert (read.id, [item.id for item in read.of("idna")]) == (written.id, ["A-1"])
    for form in ("zip", "gztar"):
        archive = Path(shutil.make_archive(str(tmp_path / f"packed-{form}"), form, tmp_path, "snapshot"))
        assert advisories.load(archive).id == written.id


def test_a_new_snapshot_replaces_the_old_one_and_its_files(tmp_path: Path) -> None:
    """After a second import the folder holds one manifest and one index."""
    first = saved(folder(tmp_path / "db", one=record()), tmp_path / "snapshot")
    second = saved(folder(tmp_path / "db2", one=record(fixed="3.8")), tmp_path / "snapshot")
    assert first.id != second.id
    assert sorted(item.name for item in (tmp_path / "snapshot").iterdir()) == [second.manifest.index, "manifest.json"]


def test_what_a_killed_import_left_is_swept_up(tmp_path: Path) -> None:
    """A temporary file of a write that was killed does not make the folder something else, and goes with the next import."""
    saved(folder(tmp_path / "db", one=record()), tmp_path / "snapshot")
    for name in (".manifest.json.0123456789ab", ".advisories-0123456789ab.json.0123456789ab"):
        (tmp_path / "snapshot" / name).write_text("half")
    saved(folder(tmp_path / "db2", one=record(fixed="3.8")), tmp_path / "snapshot")
    assert not list((tmp_path / "snapshot").glob(".*"))


def test_a_write_that_fails_leaves_the_old_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up between index and manifest changes nothing for readers, and leaves no temporary file."""
    held = saved(folder(tmp_path / "db", one=record()), tmp_path / "snapshot")
    real = durable.write

    def fail(path: Path, data: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(durable, "write", fail)
    with pytest.raises(InvalidInput, match="No space"):
        saved(folder(tmp_path / "db2", one=record(fixed="3.8")), tmp_path / "snapshot")
    assert advisories.load(tmp_path / "snapshot").id == held.id
    assert not list((tmp_path / "snapshot").glob(".*"))


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    """`--to` a folder that holds something else is refused and left alone."""
    target = folder(tmp_path / "precious", notes="mine")
    with pytest.raises(InvalidInput, match="no snapshot and not empty"):
        saved(folder(tmp_path / "db", one=record()), target)
    assert [item.name for item in target.iterdir()] == ["notes.yaml"]


def test_a_missing_or_damaged_snapshot_is_unusable(tmp_path: Path) -> None:
    """No folder, an empty one, a lost index, a truncated index and a linked manifest are errors, never an empty snapshot."""
    with pytest.raises(AdvisoriesUnusable, match="no advisory snapshot"):
        advisories.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdvisoriesUnusable, match="no advisory snapshot"):
        advisories.load(tmp_path / "empty")
    held = saved(folder(tmp_path / "db", one=record()), tmp_path / "snapshot")
    index = tmp_path / "snapshot" / held.manifest.index
    data = index.read_bytes()
    index.write_bytes(data[:-10])
    with pytest.raises(AdvisoriesUnusable, match="SHA-256"):
        advisories.load(tmp_path / "snapshot")
    index.unlink()
    with pytest.raises(AdvisoriesUnusable, match="no advisory snapshot"):
        advisories.load(tmp_path / "snapshot")
    index.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdvisoriesUnusable, match="symbolic link"):
        advisories.load(tmp_path / "snapshot")


def test_snapshots_are_sources_and_keep_their_coverage(tmp_path: Path) -> None:
    """A partial snapshot and one more record make a snapshot that covers both and no more."""
    reading = advisories.read_sources([folder(tmp_path / "db", one=record())], complete=False)
    advisories.save(tmp_path / "snapshot", *advisories.make(reading, now=NOW))
    added = folder(tmp_path / "new", new=record("B-1", "rich")) / "new.yaml"
    merged = advisories.read_sources([tmp_path / "snapshot", added])
    assert merged.covers == {"idna", "rich"}
    assert sorted(item.id for item in merged.advisories) == ["A-1", "B-1"]


def test_a_fresh_record_does_not_renew_an_old_database(tmp_path: Path) -> None:
    """The date of a merged snapshot is that of its oldest source, so that it still warns of its age."""
    old = folder(tmp_path / "db", one=record().replace("2026-11-20", "2024-01-01"))
    saved(old, tmp_path / "snapshot")
    new = folder(tmp_path / "new", new=record("B-1", "rich")) / "new.yaml"
    manifest, _ = advisories.make(advisories.read_sources([tmp_path / "snapshot", new]), now=NOW)
    assert manifest.date.startswith("2024-01-01")


def test_only_keeps_and_covers_the_packages_asked_for(tmp_path: Path) -> None:
    """A snapshot for one registry covers its packages, also those without a record, and says nothing of others."""
    reading = advisories.read_sources([folder(tmp_path / "db", one=record(), two=record("A-2", "rich"))], complete=True)
    held = advisories.save(tmp_path / "s", *advisories.make(reading, now=NOW, only=frozenset({"idna", "networkx"})))
    assert (held.covers("networkx"), held.covers("rich"), list(held.packages())) == (True, False, ["idna"])


def test_the_commit_of_a_checkout_is_recorded(tmp_path: Path) -> None:
    """The revision is read from the checkout's own files, loose or packed."""
    source = folder(tmp_path / "db", one=record())
    git = source / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs\n{'a' * 40} refs/heads/main\n")
    assert advisories.read_sources([source]).sources[0].revision == "a" * 40
    (git / "HEAD").write_text("b" * 40 + "\n")
    assert advisories.read_sources([source]).sources[0].revision == "b" * 40
