"""What the service shows of a registry root: the example registry, through the views of ``/algorithm/latest/registry``."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nexus.app.registry import views
from nexus.kernel.errors import NotARegistry, UnknownName

ROOT = Path(__file__).parents[2] / "examples/registry"


@pytest.mark.parametrize("name", ["packages", "models", "owners", "variants", "matrix"])
def test_each_view_is_plain_data(name: str) -> None:
    """Every view gives rows that JSON carries as they are."""
    rows = views(str(ROOT))[name]({})
    assert rows
    assert msgspec.json.decode(msgspec.json.encode(rows)) == msgspec.to_builtins(rows)


def test_the_example_has_no_findings() -> None:
    """The findings view of a tree that is right is empty."""
    assert views(str(ROOT))["findings"]({}) == []


def test_one_package_one_variant() -> None:
    """``name`` and ``variant`` narrow a view to one thing."""
    shown = views(str(ROOT))
    assert shown["packages"]({"name": "networkx"})["name"] == "networkx"
    assert "jinja2" in {pin["package"] for pin in shown["variants"]({"variant": "product"})}
    assert shown["models"]({"variant": "product"})["supported"]


def test_every_view_gives_one_thing_by_name() -> None:
    """No name is ignored: a model, an owner, the findings of a package, pins, a row of the matrix, the audit of a variant."""
    shown = views(str(ROOT))
    assert shown["models"]({"name": "nexus-examples/host-names"})["package"] == "idna"
    assert shown["models"]({"name": "idna/host-names"})["package"] == "idna"
    assert shown["owners"]({"name": "Emmy-Example"})["packages"] == ["networkx"]
    assert shown["findings"]({"name": "rich"}) == []
    assert shown["variants"]({"name": "product"}) == shown["variants"]({"variant": "product"})
    assert shown["matrix"]({"name": "babel"})["product"] == "2.16.0"
    assert {row["lock"] for row in shown["audit"]({"name": "product"})["verdicts"]} == {"product"}


def test_a_registry_that_is_gone_is_not_an_empty_one(tmp_path: Path) -> None:
    """Whoever asks is told, instead of being shown no packages."""
    (tmp_path / "packages").mkdir()
    shown = views(str(tmp_path))
    (tmp_path / "packages").rmdir()
    with pytest.raises(NotARegistry):
        shown["packages"]({})


@pytest.mark.parametrize(
    ("view", "query"),
    [
        ("packages", {"name": "nothing"}),
        ("variants", {"variant": "x"}),
        ("models", {"variant": "x"}),
        *((view, {"name": "nothing"}) for view in ("models", "owners", "findings", "variants", "matrix", "audit")),
    ],
)
def test_an_unknown_name_is_not_found(view: str, query: dict[str, str]) -> None:
    """What the registry does not have is 404, with what it has as the hint."""
    with pytest.raises(UnknownName):
        views(str(ROOT))[view](query)


def test_the_audit_names_its_snapshot() -> None:
    """The verdict can be reproduced: the snapshot's hash and date stand beside it."""
    summary = views(str(ROOT))["audit"]({})
    assert len(summary["snapshot"]["id"]) == 64
    assert summary["snapshot"]["date"].startswith("2024-10-10")


def test_a_folder_that_is_no_registry_is_refused_at_the_start(tmp_path: Path) -> None:
    """The service does not start over a folder that is no registry."""
    with pytest.raises(NotARegistry):
        views(str(tmp_path))
