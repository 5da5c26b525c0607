"""The examples as someone would copy them: manifests without findings, exact pins, and functions that work in process.

`depots` and `digits` need packages this environment has not; their own tests, and the demo, run them in theirs.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import tomllib
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from examples import demo
from examples.picture import Span, draw

from nexus.runs.templates import Template, read_manifests
from nexus.sdk import RunView
from tests.unit.runs.test_templates import stored

EXAMPLES = Path(demo.__file__).parent
NAMES = ("depots", "digits", "hello", "tree")


def module(name: str) -> ModuleType:
    """The main.py of an example, imported under a name of its own."""
    import sys

    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "main.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_has_no_findings_and_runs_here(name: str) -> None:
    """Each example's manifest is clean, named as its folder, and says how it runs without containers."""
    folder = EXAMPLES / name
    manifests, findings = read_manifests((folder / "algorithm.yaml").read_text(), "algorithm.yaml", base=str(folder))
    assert findings == []
    template = Template.from_stored(stored(manifests[0]))
    assert (template.name, template.local) == (name, {"project": str(folder)})


@pytest.mark.parametrize("name", NAMES)
def test_dependencies_are_pinned_exactly(name: str) -> None:
    """Everything but our own SDK, which is the one that runs, has one version."""
    project = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text())["project"]
    ours, *others = project["dependencies"]
    assert ours == "algorithm-nexus"
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+", other) for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_is_short_and_the_payload_is_an_object(name: str) -> None:
    """A reader gets through in a minute, and `--payload payload.json` is accepted."""
    assert len((EXAMPLES / name / "README.md").read_text().splitlines()) <= 25
    assert isinstance(json.loads((EXAMPLES / name / "payload.json").read_bytes()), dict)


def test_hello_greets() -> None:
    """The payload on disk gives the greeting the tutorial prints."""
    assert module("hello").hello.test((EXAMPLES / "hello/payload.json").read_bytes()) == {"message": "Hello, Ada!"}


def test_tree_spawns_a_child_for_each_value_and_fold() -> None:
    """The payload on disk makes eight children; the value they like best wins."""
    found = module("tree").tune.test(
        (EXAMPLES / "tree/payload.json").read_bytes(),
        children={"digits": lambda task: {"accuracy": 0.9 if task["parameters"]["gamma"] == 0.001 else 0.5}},
    )
    assert (found.best, found.accuracy, found.children) == (0.001, 0.9, 8)


def test_the_cities_are_those_the_readme_describes() -> None:
    """A hundred and twenty cities a country, largest first, every one on the globe."""
    rows = list(csv.DictReader((EXAMPLES / "depots/cities.csv").read_text("utf-8").splitlines()))
    for country in ("BR", "DE", "ES", "FR", "GB", "IN", "IT", "JP", "PL", "TR"):
        people = [int(row["population"]) for row in rows if row["country"] == country]
        assert len(people) == 120
        assert people == sorted(people, reverse=True)
    assert all(abs(float(row["latitude"])) <= 90 and abs(float(row["longitude"])) <= 180 for row in rows)


def view(stage: str, **changes: Any) -> RunView:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return RunView(
        request_id="r", algorithm="hello", stage=stage, root_id="r", **{"received_at": now, "last_modified": now, **changes}
    )


@pytest.mark.parametrize(
    ("stage", "word"),
    [("NEW", "waiting"), ("BUFFERED", "waiting"), ("RUNNING", "running"), ("COMPLETED", "done"), ("CANCELLED", "failed")],
)
def test_every_stage_has_a_word_in_the_progress(stage: str, word: str) -> None:
    """A person sees waiting, running, done or failed."""
    assert demo.standing(view(stage)) == word


def test_spans_count_from_the_first_run() -> None:
    """A run that came 2 s after the first, started 3 s later and ran 5 s."""
    first, came = view("COMPLETED"), datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)
    later = view("COMPLETED", received_at=came, started_at=came + timedelta(seconds=3), last_modified=came + timedelta(seconds=8))
    assert demo.spans([first, later])[1] == Span(algorithm="hello", came_s=2.0, started_s=5.0, ended_s=10.0)


def test_the_picture_is_well_formed_and_names_what_it_shows() -> None:
    """Any result that has the examples' shape gives SVG a browser can read, also with names that look like markup."""
    cities = [{"name": f"<City {i}>", "latitude": 50.0 + i, "longitude": 8.0 + i, "population": 10**i} for i in range(4)]
    plan = {"country": "DE", "mean_km": 12.3, "cities": cities, "serves": [0, 0, 3, 3]}
    reading = {"label": "a & b", "accuracy": 0.97, "misread": [[3, 5, [16] * 64]]}
    points = [{"value": value, "accuracy": 0.9, "lowest": 0.8, "highest": 1.0} for value in (0.001, 0.01)]
    span = Span(algorithm="depots", came_s=0.0, started_s=0.5, ended_s=2.0)
    svg = ET.fromstring(draw([plan], [reading], {"best": 0.01, "accuracy": 0.9, "points": points}, [span]))
    words = " ".join(text.text or "" for text in svg.iter("{http://www.w3.org/2000/svg}text"))
    assert all(word in words for word in ("Germany", "<City 0>", "a & b", "3, read 5", "best: gamma 0.01", "GeoNames"))
