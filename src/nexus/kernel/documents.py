"""YAML that knows where it stands.

Two readings (``stack.md`` 7): :func:`load` is fast, refuses duplicate keys, and gives plain values; only where a check has
something to say does :func:`locate` read the text again with a parser that keeps marks, to find the line and column of a
path such as ``("spec", "args", 0)``. Aliases that explode, tabs, wrong encodings and oversized files are findings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

Path = tuple[str | int, ...]

MAX_BYTES = 1024 * 1024  # a manifest is written by hand; ten times this is a mistake
MAX_DEPTH = 64
_MAX_ALIASES = 64
_POSITION = re.compile(r"line (\d+),? column (\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong (or worth a look), where, and what to do about it.

    ``line`` and ``column`` count from 1; 0 means the file as a whole. ``severity`` is ``error`` or ``warning``.
    """

    code: str
    message: str
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    severity: str = "error"
    at: Path = ()

    def text(self) -> str:
        """``file:line:column: error[CODE]: message``, with the hint on a line of its own."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        head = f"{place}: " if place else ""
        return f"{head}{self.severity}[{self.code}]: {self.message}" + (f"\n  hint: {self.hint}" if self.hint else "")


class DocumentError(Exception):
    """A text that cannot be read as YAML at all; carries one finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def decode(data: bytes, file: str) -> str:
    """The text of a file. Raises DocumentError when it is too large or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise DocumentError(
            Finding(code="NX-Y01", file=file, message=f"the file has {len(data)} bytes; at most {MAX_BYTES} are read",
                    hint="split it, or keep data out of manifests")
        )  # fmt: skip
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError(
            Finding(code="NX-Y02", file=file, line=line, message="the file is not UTF-8", hint="save it as UTF-8")
        ) from error


def load(text: str, file: str = "") -> Any:
    """The one document of *text* as plain values; None when it is empty.

    Raises DocumentError with the place: syntax, duplicate keys, too many aliases, too deep.
    """
    documents = load_all(text, file)
    if len(documents) > 1:
        raise DocumentError(
            Finding(code="NX-Y03", file=file, message=f"the file holds {len(documents)} documents where one is meant",
                    hint="remove the `---` separators")
        )  # fmt: skip
    return documents[0] if documents else None


def load_all(text: str, file: str = "") -> list[Any]:
    """Every document of *text*. Raises DocumentError."""
    from ryaml import _ryaml as ryaml

    _refuse_exploding(text, file)
    try:
        documents: list[Any] = ryaml.loads_all(text)
    except ryaml.InvalidYamlError as error:
        raise DocumentError(_syntax(str(error), text, file)) from error
    except RecursionError as error:
        raise DocumentError(Finding(code="NX-Y05", file=file, message="the document is nested too deep")) from error
    for document in documents:
        if _depth(document) > MAX_DEPTH:
            raise DocumentError(Finding(code="NX-Y05", file=file, message=f"the document is nested deeper than {MAX_DEPTH} levels"))
    return documents


def locate(text: str, at: Path, document: int = 0, *, key: bool = False) -> tuple[int, int]:
    """Line and column (from 1) of the value at *at* — of its key, with ``key`` — or of the nearest part of the path that exists."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=loader) if node is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if document >= len(nodes):
        return (1, 1)
    node = nodes[document]
    mark = node.start_mark
    for step in at:
        found, found_key = _child(node, step)
        if found is None:
            break
        node = found
        mark = found_key.start_mark if key and found_key is not None else found.start_mark
    return (mark.line + 1, mark.column + 1)


def place(findings: Sequence[Finding], texts: dict[str, str], documents: dict[int, int] | None = None) -> list[Finding]:
    """The findings with line and column looked up from ``at`` in the texts of their files; others as they are."""
    placed = []
    for index, finding in enumerate(findings):
        text = texts.get(finding.file)
        if finding.line or text is None:
            placed.append(finding)
            continue
        line, column = locate(text, finding.at, (documents or {}).get(index, 0), key=True)
        placed.append(replace(finding, line=line, column=column))
    return placed


def _child(node: Any, step: str | int) -> tuple[Any, Any]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == str(step):
                return value_node, key_node
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], None
    return None, None


def _refuse_exploding(text: str, file: str) -> None:
    """Aliases multiply: a few hundred bytes can become gigabytes. Hand-written manifests hold a handful."""
    if "*" not in text or "&" not in text:
        return
    import yaml

    aliases = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                aliases += 1
                if aliases > _MAX_ALIASES:
                    mark = event.start_mark
                    assert mark is not None
                    raise DocumentError(
                        Finding(code="NX-Y04", file=file, line=mark.line + 1, column=mark.column + 1,
                                message=f"more than {_MAX_ALIASES} aliases", hint="write the values out")
                    )  # fmt: skip
    except yaml.YAMLError:
        return  # the reader proper reports the syntax


def _syntax(message: str, text: str, file: str) -> Finding:
    match = _POSITION.search(message)
    line, column = (int(match[1]), int(match[2])) if match else (0, 0)
    hint = "YAML is indented with spaces, not tabs" if re.search(r"^[ ]*\t", text, re.MULTILINE) else ""
    if "duplicate" in message.lower():
        hint = "keep one of the two keys"
    return Finding(code="NX-Y06", file=file, line=line, column=column, message=f"not valid YAML: {message}", hint=hint)


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, level = stack.pop()
        deepest = max(deepest, level)
        if deepest > MAX_DEPTH:
            break
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        stack.extend((child, level + 1) for child in children)
    return deepest
