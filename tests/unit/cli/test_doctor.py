"""What doctor says of machines it was shown."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nexus.cli import doctor_checks as doctor


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 13, 5), "ok"), ((3, 15, 0), "warning")]
)
def test_python_is_judged_by_what_is_tested(version: tuple[int, ...], status: str) -> None:
    """Older than 3.11 is missing, newer than tested is a warning."""
    assert doctor.python(version).status == status


def test_the_disk_is_that_of_the_longest_mount_point() -> None:
    """A folder below a network mount is refused, its neighbour is not; memory is a warning."""
    mounts = "d / ext4 rw\nd /srv nfs4 rw\nd /srv/local xfs rw\nd /run tmpfs rw\n"
    seen = {name: doctor.file_system(Path(name), mounts).status for name in ("/srv/data", "/srv/local/x", "/srvs", "/run/x")}
    assert seen == {"/srv/data": "missing", "/srv/local/x": "ok", "/srvs": "ok", "/run/x": "warning"}


def test_room_is_needed() -> None:
    """A nearly full disk is missing, a filling one a warning."""
    assert [doctor.room(size).status for size in (50 * 2**20, 2**30, 2**40)] == ["missing", "warning", "ok"]


def test_a_folder_that_can_be_made_is_fine(tmp_path: Path) -> None:
    """The data folder need not exist; it must be possible; one that others can read is noted."""
    new = tmp_path / "a" / "b"
    assert doctor.data_folder(new, tmp_path).status == "ok"
    assert not new.exists()
    tmp_path.chmod(0o755)
    assert doctor.data_folder(tmp_path, tmp_path).status == "note"
    tmp_path.chmod(0o700)
    assert doctor.data_folder(tmp_path, tmp_path).status == "ok"
    assert doctor.sqlite(tmp_path).status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_called_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, or one over a symbolic link, names the folder as well as its real path does."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    for given in ("data", "link", "./data/../data"):
        assert doctor.data_folder(Path(given), tmp_path / "data").detail == given.removeprefix("./")
    assert "made at the first start" in doctor.data_folder(Path("new"), tmp_path).detail


def test_a_taken_port_is_told_from_our_own() -> None:
    """A port that something else holds is a warning with a way out; the service's own is fine."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert doctor.listening("127.0.0.1", port, ours=False).status == "warning"
        assert doctor.listening("127.0.0.1", port, ours=True).status == "ok"


def test_clocks_are_compared() -> None:
    """The past, and a clock away from the service's."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert doctor.clock(now, None).status == "ok"
    assert doctor.clock(now, -2.0).status == "ok"
    assert "60 s behind the service" in doctor.clock(now, 60.0).detail
    assert doctor.clock(datetime(1970, 1, 1, tzinfo=UTC), None).status == "missing"
