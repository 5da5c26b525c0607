"""Pages of the catalogue made from its own models: the rules, the fields of every manifest, JSON Schemas for editors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import nexus.catalog.checks  # noqa: F401 - enters every rule in the book
from nexus.catalog import editors, rulebook, schema
from nexus.catalog.formats import FORMATS
from nexus.catalog.shapes import Either, Flag, Items, Shape, Table, Text

_SCHEMAS = ("docs/reference/schemas", "examples/registry/schemas")
_GROUPS = {
    "0": "Files and manifests", "1": "Files and manifests", "2": "Fields", "3": "Packages", "4": "Models", "5": "Benchmarks",
    "6": "Logical benchmarks", "7": "Skills", "8": "The registry", "9": "Waivers",
}  # fmt: skip


def pages() -> dict[str, str]:
    """Path → text of every generated page of the catalogue."""
    made = {"docs/reference/rules.md": rules_page(), "docs/reference/manifests.md": manifests_page()}
    for folder in _SCHEMAS:
        made |= {f"{folder}/{file}": text for file, text in editors.schemas().items()}
    return made


def rules_page() -> str:
    """A section a rule, by code."""
    lines = [
        "# Rules of the catalogue",
        "",
        "`nexus validate catalog` and `nexus validate package` check these. Each has a stable code and a name. A registry sets",
        "their severity in `[tool.nexus.rules]` of its `pyproject.toml` (`error`, `warning` or `off`), and accepts single findings",
        "for a time in `waivers.yaml`. Generated from `nexus.catalog.rules`. Codes `NX-Y…` are about YAML itself: size, encoding,",
        "several documents, aliases, depth, syntax, duplicate keys (01 to 07); they are errors.",
        "",
    ]
    group = ""
    for code, rule in sorted(rulebook.RULES.items()):
        if not code.startswith("NX-C"):  # those of variants have their own page
            continue
        heading = _GROUPS[code[-2]]
        if heading != group:
            lines += [f"## {heading}", ""]
            group = heading
        text = " ".join(inspect.cleandoc(rule.text).split())
        lines += [
            f"### {code} · {rule.name} · {rule.severity}",
            "",
            f"**{rule.title}.** {text}",
            "",
            f"*What to do:* {rule.hint}.",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def manifests_page() -> str:
    """A table of fields a manifest."""
    lines = [
        "# Manifests",
        "",
        "Every field of every manifest. Unknown fields are refused. Generated from `nexus.catalog.schema`, as are the JSON Schemas",
        "of the folder `schemas`. `nexus get schemas schemas` writes them into a registry; the YAML language server checks a file",
        "as you type when its first line names one, as `nexus new` then writes it:",
        "`# yaml-language-server: $schema=../../schemas/nexus.schema.json`.",
        "",
    ]
    for name, (title, shape) in schema.DOCUMENTS.items():
        lines += [f"## {title[0].upper()}{title[1:]}", "", f"Schema: [`{name}.schema.json`](schemas/{name}.schema.json)", ""]
        lines += ["| field | type | required | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{path}` | {kind} | {'yes' if required else ''} | {doc} |" for path, kind, required, doc in _rows(shape)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _rows(shape: Shape, prefix: str = "") -> Iterator[tuple[str, str, bool, str]]:
    if isinstance(shape, Items):
        yield from _rows(shape.of, f"{prefix}[]")
    elif isinstance(shape, Either):
        for one in shape.of:
            yield from _rows(one, prefix)
    elif isinstance(shape, Table):
        for key, field in shape.fields.items():
            path = f"{prefix}.{key}" if prefix else key
            yield path, _kind(field.shape), field.required, field.doc
            yield from _rows(field.shape, path)


def _kind(shape: Shape) -> str:
    if isinstance(shape, Text):
        if shape.choices:
            return " or ".join(f"`{word}`" for word in shape.choices) if len(shape.choices) < 5 else "one of ado's variable types"
        return f"text, such as `{FORMATS[shape.format].example}`" if shape.format else "text"
    if isinstance(shape, Items):
        return f"list of {_kind(shape.of)}" + (f", at least {shape.fewest}" if shape.fewest else "")
    if isinstance(shape, Either):
        return " or ".join(_kind(one) for one in shape.of)
    if isinstance(shape, Flag) and shape.only is not None:
        return f"`{str(shape.only).lower()}`"
    return shape.word
