"""The schemas of editors say what the checks say."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from nexus.catalog import editors, schema, shapes
from nexus.catalog.formats import FORMATS
from nexus.catalog.shapes import Anything, Either, Flag, Items, Number, Shape, Table, Text
from nexus.kernel.documents import Path

WRONG: list[Any] = [
    *(True, 0, -1, 1.5, 10**30, [], [None], {}, {"x": 1}, [[]]),
    *("", " ", "\n", "x", "ü", "a\tb", "[", "x" * 101, "x" * 3000),
    *("../x", "a/../b", "/etc/passwd", "~x", "a\\b", "-x"),
    *("1.0.0", "01.0.0", "2026-13-01", "0s", "20m", "-1s", "8Gi", "0"),
    *("\u0663", "\u0968m", "\u0661.\u0660.\u0660"),  # digits of other scripts
    *("a/b", "ab/c1", "a--b/cd", "org/1234", "o" * 43 + "/model", "org/" + "m" * 97),
    *("octo--cat", "o" * 40, "http://x.org/a", "https://u@x.org"),
]
LESS_STRICT = {"requirement", "quantity", "date"}  # an expression cannot know requirements, months, or numbers out of range


def example(shape: Shape) -> Any:
    """A value of the shape with every field."""
    if isinstance(shape, Text):
        return FORMATS[shape.format].example if shape.format else shape.choices[0] if shape.choices else "text"
    if isinstance(shape, Number):
        return 1.5 if shape.fraction else 1
    if isinstance(shape, Flag):
        return True
    if isinstance(shape, Anything):
        return "x"
    if isinstance(shape, Items):
        return [example(shape.of) for _ in range(max(1, shape.fewest))]
    if isinstance(shape, Either):
        return example(shape.of[0])
    return {key: example(field.shape) for key, field in shape.fields.items()}


def places(value: Any, at: Path = ()) -> Iterator[Path]:
    """The path of every part."""
    yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*at, key))


def changed(value: Any, at: Path, new: Any) -> Any:
    """The value with another one at this place."""
    if not at:
        return new
    value = copy.deepcopy(value)
    part = value
    for step in at[:-1]:
        part = part[step]
    part[at[-1]] = new
    return value


def format_at(shape: Shape, at: Path) -> str:
    """The form of the text at this place."""
    for step in at:
        if isinstance(shape, Items):
            shape = shape.of
        elif isinstance(shape, Table):
            shape = shape.fields[str(step)].shape
    return shape.format if isinstance(shape, Text) else ""


@pytest.mark.parametrize("name", schema.DOCUMENTS)
def test_an_editor_sees_what_the_checks_see(name: str) -> None:
    """Each field with none and with five of forty values: the schema refuses what is an error, and only that."""
    _, shape = schema.DOCUMENTS[name]
    validator = Draft7Validator(json.loads(editors.schemas()[f"{name}.schema.json"]))
    right = example(shape)
    assert validator.is_valid(right)
    chance = random.Random(7)
    for at in places(right):
        for value in [None, *chance.sample(WRONG, 5)]:
            document = changed(right, at, value)
            ours = any(one.code != shapes.EMPTY for one in shapes.check(document, shape, "f"))
            refused = not validator.is_valid(document)
            assert not refused or ours, (at, value)
            assert refused or not ours or format_at(shape, at) in LESS_STRICT, (at, value)
