"""Tests of nexus-examples/report-writer."""

import json
from pathlib import Path

from jinja2 import Environment

TEMPLATE = "# {{ title }}\n{% for row in rows %}\n- {{ row.model }}: {{ '%.2f' | format(row.score) }}{% endfor %}\n"


def test_one_input() -> None:
    """The report names every measurement."""
    data = json.loads((Path(__file__).parent / "report.json").read_text())
    report = Environment(autoescape=True).from_string(TEMPLATE).render(**data)
    assert "- a: 0.91" in report
    assert "- b: 0.88" in report
