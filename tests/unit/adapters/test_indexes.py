"""Which indexes a machine is configured with: uv's settings first, then pip's."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from nexus.adapters import indexes
from nexus.adapters.uv import clean


def urls(environ: dict[str, str], project: dict[str, object] | None = None) -> list[str]:
    return [index.url for index in indexes.configured(environ, project)]


def test_a_machine_that_says_nothing_has_the_public_index(tmp_path: Path) -> None:
    """Without any configuration there is one index: the one uv itself would ask."""
    assert urls({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}) == [indexes.uv_default()]
    assert indexes.uv_default().startswith("https://")


def test_extra_indexes_come_before_the_default_one(tmp_path: Path) -> None:
    """uv asks its extra indexes first; an index is asked once."""
    environ = {
        "HOME": str(tmp_path),
        "UV_INDEX": "mine=https://one.example/simple https://two.example/simple/",
        "UV_DEFAULT_INDEX": "https://three.example/simple",
    }
    assert urls(environ) == ["https://one.example/simple", "https://two.example/simple", "https://three.example/simple"]
    assert urls({**environ, "UV_INDEX": "https://three.example/simple"}) == ["https://three.example/simple"]


def test_the_project_and_uv_s_own_files_are_read(tmp_path: Path) -> None:
    """`[[tool.uv.index]]` of the registry and the user's `uv.toml` count; explicit indexes are for named sources only."""
    (tmp_path / ".config/uv").mkdir(parents=True)
    (tmp_path / ".config/uv/uv.toml").write_text('[[index]]\nurl = "https://user.example/simple"\ndefault = true\n')
    project = {
        "index": [
            {"name": "own", "url": "https://own.example/simple"},
            {"name": "torch", "url": "https://t.example", "explicit": True},
            "rubbish",
        ]
    }
    assert urls({"HOME": str(tmp_path)}, project) == ["https://own.example/simple", "https://user.example/simple"]


def test_pip_s_configuration_is_the_last_resort(tmp_path: Path) -> None:
    """uv does not read it, so it is handed on."""
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://pip.example/simple\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    assert indexes.pip_default(environ) == "https://pip.example/simple"
    assert indexes.pip_default({**environ, "PIP_INDEX_URL": "https://env.example/simple"}) == "https://env.example/simple"
    (tmp_path / "pip.conf").write_text("not an ini file [[[")
    assert indexes.pip_default(environ) == ""


@pytest.mark.parametrize("way", ["address", "environment", "netrc"])
def test_credentials_are_found_and_never_shown(tmp_path: Path, way: str) -> None:
    """From the address, uv's variables or netrc: the header carries them, the repr and the address do not."""
    environ = {"HOME": str(tmp_path), "UV_DEFAULT_INDEX": "corp=https://host.example/simple"}
    if way == "address":
        environ["UV_DEFAULT_INDEX"] = "https://ann:s3%20cret@host.example/simple"
    elif way == "environment":
        environ |= {"UV_INDEX_CORP_USERNAME": "ann", "UV_INDEX_CORP_PASSWORD": "s3 cret"}
    else:
        environ["NETRC"] = str(tmp_path / "netrc")
        (tmp_path / "netrc").write_text('machine host.example login ann password "s3 cret"\n')
        (tmp_path / "netrc").chmod(0o600)
    (index,) = indexes.configured(environ)
    assert base64.b64decode(index.authorization.removeprefix("Basic ")).decode() == "ann:s3 cret"
    assert index.url == "https://host.example/simple"
    assert "cret" not in repr(index)


def test_what_a_tool_says_is_cleaned() -> None:
    """Credentials and control characters are cut from a tool's words."""
    assert clean("see https://ann:pw@host/x\x1b[31m red") == "see https://***@host/x[31m red"
