"""What local annotations name is looked for when a manifest is read, on the service's machine."""

from __future__ import annotations

from pathlib import Path

from nexus.adapters.localpaths import look
from nexus.runs.templates import PathFault, read_manifests

MANIFEST = """\
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata:
  name: demand
  annotations:
    local.nexus/{key}: {value}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: work
"""


def fault(key: str, path: Path | str) -> PathFault:
    found = look(key, str(path))
    assert found is not None
    return found


def test_a_project_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A folder that does not exist, and a file in its place, are named with what to do."""
    missing = fault("project", tmp_path / "solver")
    assert str(tmp_path / "solver") in missing.message
    assert "does not exist" in missing.message
    assert missing.severity == "error"
    (tmp_path / "file").touch()
    assert "no folder" in fault("project", tmp_path / "file").message


def test_a_project_without_a_description_is_an_error(tmp_path: Path) -> None:
    """A folder with neither `pyproject.toml` nor `requirements.txt` is no project; with either it is one."""
    (tmp_path / "main.py").touch()
    found = fault("project", tmp_path)
    assert "`pyproject.toml`" in found.message
    assert "local.nexus/working-directory" in found.hint
    (tmp_path / "requirements.txt").touch()
    assert look("project", str(tmp_path)) is None
    (tmp_path / "requirements.txt").unlink()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    assert look("project", str(tmp_path)) is None


def test_a_description_that_is_no_toml_is_an_error(tmp_path: Path) -> None:
    """It would fail the first build; the line is named."""
    (tmp_path / "pyproject.toml").write_text("[project\n")
    found = fault("project", tmp_path)
    assert "pyproject.toml" in found.message
    assert "line 1" in found.message
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    assert "pyproject.toml" in fault("project", tmp_path).message


def test_requirements_and_an_interpreter_must_be_files(tmp_path: Path) -> None:
    """A requirements file, and a Python named by its path, that do not exist are errors; a version is not looked for."""
    assert "does not exist" in fault("requirements", tmp_path / "r.txt").message
    assert "does not exist" in fault("python", tmp_path / "bin" / "python").message
    (tmp_path / "r.txt").touch()
    assert look("requirements", str(tmp_path / "r.txt")) is None
    assert look("python", "3.12") is None


def test_a_working_directory_may_come_later(tmp_path: Path) -> None:
    """It may be mounted or made before the first run: a warning."""
    found = fault("working-directory", tmp_path / "later")
    assert (found.severity, "does not exist" in found.message) == ("warning", True)
    assert look("working-directory", str(tmp_path)) is None


def test_a_path_relative_to_nothing_is_an_error() -> None:
    """A manifest that came without its folder cannot name relative paths: where the service was started says nothing."""
    assert "relative" in fault("project", "solver").message


def test_completion_is_no_path() -> None:
    """Annotations that name nothing on the disk are not looked for."""
    assert look("completion", "exit-code") is None


def test_a_fault_is_a_finding_with_its_place(tmp_path: Path) -> None:
    """File, line, column and field are those of the annotation; the manifest is not used."""
    text = MANIFEST.format(key="project", value="solver")
    manifests, findings = read_manifests(text, "demand.yaml", base=str(tmp_path), look=look)
    assert manifests == []
    assert [(each.file, each.line, each.code, each.severity) for each in findings] == [("demand.yaml", 6, "NX-T09", "error")]
    assert "`local.nexus/project`" in findings[0].message
    (tmp_path / "solver").mkdir()
    (tmp_path / "solver" / "pyproject.toml").touch()
    manifests, findings = read_manifests(text, "demand.yaml", base=str(tmp_path), look=look)
    assert (len(manifests), findings) == (1, [])


def test_a_warning_keeps_no_manifest_from_being_used(tmp_path: Path) -> None:
    """A working directory that is not there yet is told, and the algorithm registered."""
    text = MANIFEST.format(key="working-directory", value="later")
    manifests, findings = read_manifests(text, "demand.yaml", base=str(tmp_path), look=look)
    assert [len(manifests), *(each.severity for each in findings)] == [1, "warning"]
