"""How data is printed: one place for ``-o table|json|yaml|csv``. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

FORMATS = ("table", "json", "yaml", "csv")
Row = Mapping[str, Any]


def output_option(*formats: str, help_: str = "How to print data.") -> Callable[[Any], Any]:
    """The ``-o/--output`` option with these formats, the first of which is the default (the usual four unless given)."""
    choices = formats or FORMATS
    return click.option(
        "-o",
        "--output",
        "fmt",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help=help_,
    )


def emit(rows: Sequence[Row], fmt: str, columns: Sequence[str] | None = None, *, empty: str = "nothing to show") -> None:
    """Prints rows. *columns* choose and order what ``table`` and ``csv`` show; ``json`` and ``yaml`` carry every key."""
    sys.stdout.write(render(rows, fmt, columns, empty=empty))


def emit_one(record: Row, fmt: str) -> None:
    """Prints one record: a two-column table, in which a text of several lines keeps them, or the object itself."""
    if fmt == "table":
        rows = [
            {"field": "" if number else key, "value": line}
            for key, value in record.items()
            if value not in (None, "", [], {})
            for number, line in enumerate(value.expandtabs().splitlines() if isinstance(value, str) else (value,))
        ]
        sys.stdout.write(_table(rows, ["field", "value"], header=False))
    elif fmt == "csv":
        sys.stdout.write(render([record], "csv"))
    else:
        sys.stdout.write(_structured(record, fmt))


def emit_value(value: Any, fmt: str) -> None:
    """Prints any JSON value: objects and lists of objects as records and rows, everything else as one column."""
    import json

    if fmt == "json":
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    elif fmt == "yaml":
        import yaml

        sys.stdout.write(str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)))
    elif isinstance(value, dict):
        emit_one({name: _inline(item) for name, item in value.items()}, fmt)
    else:
        items = value if isinstance(value, list) else [value]
        rows = [item if isinstance(item, dict) else {"value": item} for item in items]
        emit([{name: _inline(item) for name, item in row.items()} for row in rows], fmt)


def _inline(value: Any) -> Any:
    """A value for one cell: what is nested, as JSON."""
    import json

    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def note(text: str) -> None:
    """A line for the person, on stderr, without what moves a cursor."""
    if not text.isprintable():
        from nexus.kernel.documents import printable

        text = printable(text, keep="\n\t")
    sys.stderr.write(text + "\n")


def render(rows: Sequence[Row], fmt: str, columns: Sequence[str] | None = None, *, empty: str = "") -> str:
    """Rows as text in one of FORMATS."""
    if fmt in ("json", "yaml"):
        return _structured([dict(row) for row in rows], fmt)
    names = list(columns) if columns is not None else _all_keys(rows)
    if fmt == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
        return buffer.getvalue()
    if not rows:
        return f"{empty}\n" if empty else ""
    return _table(rows, names)


def _structured(value: Any, fmt: str) -> str:
    import msgspec

    plain = msgspec.to_builtins(value)
    if fmt == "json":
        return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n"
    import yaml

    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _all_keys(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(item, Mapping) for item in value)):
        import msgspec

        return msgspec.json.encode(value).decode()
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_cell(item) for item in value)
    from nexus.kernel.documents import printable

    return printable(str(value).replace("\n", " "))


def _table(rows: Sequence[Row], names: Sequence[str], *, header: bool = True) -> str:
    cells = [[name.replace("_", " ").upper() for name in names]] if header else []
    cells += [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(names))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(lines) + "\n"
