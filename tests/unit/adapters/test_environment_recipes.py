"""Which files decide an environment, and when two are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.adapters.environment_recipes import WheelMaker, read_recipe, signature
from nexus.runs.ports import LaunchFailed


def recipe_key(folder: Path, local: dict[str, str]) -> str:
    return read_recipe(local, WheelMaker(folder / "wheels")).key("/usr/bin/python3")


def test_the_same_content_elsewhere_is_the_same(tmp_path: Path) -> None:
    """Files of the same content in two folders give one environment; files that refer to what lies beside them do not."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").write_text("tool==1\n")
        (tmp_path / name / "located.txt").write_text("-e ./beside\n")
    a, b = ({"requirements": str(tmp_path / name / "requirements.txt")} for name in ("a", "b"))
    assert recipe_key(tmp_path, a) == recipe_key(tmp_path, b)
    a, b = ({"requirements": str(tmp_path / name / "located.txt")} for name in ("a", "b"))
    assert recipe_key(tmp_path, a) != recipe_key(tmp_path, b)


def test_the_interpreter_counts(tmp_path: Path) -> None:
    """Two interpreters give two environments."""
    recipe = read_recipe({"python": "3.12"}, WheelMaker(tmp_path))
    assert recipe.key("/usr/bin/python3.11") != recipe.key("/opt/python3.12")


def test_a_change_of_any_deciding_file_is_seen(tmp_path: Path) -> None:
    """The cheap signature changes with a file that is included, and with one that appears."""
    (tmp_path / "requirements.txt").write_text("-c limits.txt\ntool\n")
    local = {"project": str(tmp_path)}
    marks = [signature(local)]
    (tmp_path / "limits.txt").write_text("tool<2\n")
    marks.append(signature(local))
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    marks.append(signature(local))
    (tmp_path / "limits.txt").write_text("tool<33\n")
    marks.append(signature(local))
    assert len(set(marks)) == 4


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("algorithm-nexus", True),
        ("Algorithm_Nexus[audit]>=0.1", True),
        ("algorithm-nexus==0.1.0 ; python_version > '3'", True),
        ("algorithm-nexus-extra", False),
        ("my-algorithm-nexus", False),
        ("# algorithm-nexus", False),
    ],
)
def test_our_own_package_is_recognised(tmp_path: Path, line: str, ours: bool) -> None:
    """A requirement on this distribution, however it is spelled, brings the running installation; a similar name does not."""
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    recipe = read_recipe({"requirements": str(tmp_path / "requirements.txt")}, WheelMaker(tmp_path / "wheels"))
    assert (recipe.wheel is not None) is ours


def test_a_bad_python_specifier_is_named(tmp_path: Path) -> None:
    """A requires-python that is no specifier is a failure that quotes it."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\nrequires-python = "three"\n')
    with pytest.raises(LaunchFailed, match="three"):
        read_recipe({"project": str(tmp_path)}, WheelMaker(tmp_path))


def test_data_does_not_belong_into_an_installed_project(tmp_path: Path) -> None:
    """A project that would be installed with too many files is refused before they are all read."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n[build-system]\nrequires = []\n')
    with (tmp_path / "data.bin").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(LaunchFailed, match="too large"):
        read_recipe({"project": str(tmp_path)}, WheelMaker(tmp_path))
