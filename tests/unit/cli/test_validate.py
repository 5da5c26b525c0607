"""`nexus validate package` reads the folder it is given and nothing it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.cli.main import main


@pytest.mark.parametrize("name", ["leak", "packages/leak"])
@pytest.mark.parametrize(("target", "word"), [("outside", "leads out of the registry"), ("r/packages/own", "leads to a folder")])
def test_a_package_that_is_a_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, target: str, word: str
) -> None:
    """By name and by path, as `validate catalog` refuses it; nothing of what it leads to is printed."""
    for folder in ("outside", "r/packages/own"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "nexus.yaml").write_text("package: {name: own, secret: 1}\n")
    (tmp_path / "r/packages/leak").symlink_to(tmp_path / target)
    monkeypatch.chdir(tmp_path / "r")
    assert main(["validate", "package", name]) == 2
    seen = capsys.readouterr()
    assert f"`packages/leak` is a link that {word}" in seen.err
    assert "secret" not in seen.out + seen.err
    assert main(["validate", "catalog"]) == 1
    assert f"the link `packages/leak` {word}" in capsys.readouterr().out
