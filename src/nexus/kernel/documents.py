"""YAML that knows where it stands.

Two readings (``stack.md`` 7): :func:`load` is fast, refuses duplicate keys, and gives plain values; only where a check has
something to say does :class:`Positions` read the text again with a parser that keeps marks, to find the line and column of a
path such as ``("spec", "args", 0)``. Aliases that explode, tabs, wrong encodings and oversized files are findings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

Path = tuple[str | int, ...]

MAX_BYTES = 1024 * 1024  # a manifest is written by hand; ten times this is a mistake
MAX_DEPTH = 64
_MAX_ALIASES = 64
_MAX_EXPANDED = 100_000  # nodes of a document once its aliases are written out
_LONGEST_SHOWN = 80
_SHALLOW_CHARACTERS = 2000
_MANY_BRACKETS = 500
_POSITION = re.compile(r"line (\d+),? column (\d+)")
_DUPLICATE = re.compile(r"duplicate entry with key (.+?)(?: at line|$)", re.DOTALL)
_TAB = re.compile(r"^[ ]*\t", re.MULTILINE)
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MENDING = (  # part of what the fast reader says → what to do about it
    ("cannot start any token", "a text that begins with `@`, `%` or a backtick needs quotes"),
    (
        "mapping values are not allowed",
        "a text with `: ` in it needs quotes, a `:` needs a space after it, and keys of one level stand below each other",
    ),
    ("expected ',' or", "close the bracket, and separate what stands in it by commas"),
    ("unknown anchor", "a text that begins with `*` needs quotes"),
    ("unexpected end of stream", "close the quote"),
    ("unknown escape", "in double quotes write a backslash twice, or use single quotes"),
    ("block sequence entries", "begin the list on a line of its own, one `- ` a line"),
    ("expected", "look at the indentation and the quotes here and in the lines above: keys of one level stand below each other"),
)


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
        place = ":".join(str(part) for part in (printable(self.file), self.line, self.column) if part)
        head = f"{place}: " if place else ""
        return f"{head}{self.severity}[{self.code}]: {self.message}" + (f"\n  hint: {self.hint}" if self.hint else "")


class DocumentError(Exception):
    """A text that cannot be read as YAML at all; carries one finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Positions:
    """Where the parts of one text stand. Reads the text once, on the first question."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes: list[Any] | None = None
        self._broken: tuple[int, int] | None = None

    def of(self, at: Path, document: int = 0, *, key: bool = False) -> tuple[int, int]:
        """Line and column (from 1) of the value at *at* — of its key, with ``key`` — or of the nearest part that exists."""
        nodes = self._read()
        if self._broken is not None:
            return self._broken
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

    def span(self, at: Path, document: int = 0) -> tuple[int, int] | None:
        """Start and end of the value at *at* as offsets into the text; None when there is no such part."""
        nodes = self._read()
        if document >= len(nodes):
            return None
        node = nodes[document]
        for step in at:
            node, _ = _child(node, step)
            if node is None:
                return None
        return (node.start_mark.index, node.end_mark.index)

    def _read(self) -> list[Any]:
        if self._nodes is None:
            import yaml

            try:
                self._nodes = _compose(self._text)
            except yaml.YAMLError as error:
                mark = getattr(error, "problem_mark", None)
                self._nodes, self._broken = [], ((mark.line + 1, mark.column + 1) if mark else (1, 1))
        return self._nodes


def printable(text: str, keep: str = "") -> str:
    """*text* without characters that would move a terminal's cursor or forge a line of output, but for those to *keep*."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else "\N{REPLACEMENT CHARACTER}" for one in text)


def shown(value: object) -> str:
    """A value from elsewhere as messages quote it: in backticks, printable, at most 80 characters."""
    text = printable(str(value)).replace("`", "'")
    return f"`{text[: _LONGEST_SHOWN - 1]}…`" if len(text) > _LONGEST_SHOWN else f"`{text}`"


def decode(data: bytes, file: str) -> str:
    """The text of a file. Raises DocumentError when it is too large or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise DocumentError(oversized(len(data), file))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DocumentError(
            Finding(code="NX-Y02", file=file, line=line, column=column, message="the file is not UTF-8", hint="save it as UTF-8")
        ) from error


def oversized(size_bytes: int, file: str) -> Finding:
    """The finding of a file that is larger than a manifest may be."""
    return Finding(
        code="NX-Y01", file=file, message=f"the file has {size_bytes} bytes; at most {MAX_BYTES} are read",
        hint="split it, or keep data out of manifests",
    )  # fmt: skip


def load(text: str, file: str = "") -> Any:
    """The one document of *text* as plain values; None when it is empty.

    Raises DocumentError with the place: syntax, duplicate keys, too many aliases, too deep.
    """
    documents = load_all(text, file)
    if len(documents) > 1:
        line, column = _second_document(text)
        raise DocumentError(
            Finding(code="NX-Y03", file=file, line=line, column=column,
                    message=f"the file holds {len(documents)} documents where one is meant",
                    hint="remove the `---` at this place; what is below it belongs in a file of its own")
        )  # fmt: skip
    return documents[0] if documents else None


def load_all(text: str, file: str = "") -> list[Any]:
    """Every document of *text*. Raises DocumentError."""
    from ryaml import _ryaml as ryaml

    if text.count("[") + text.count("{") > _MANY_BRACKETS:
        _refuse_deep(text, file)  # the fast reader's time grows with the square of the depth of brackets
    _refuse_exploding(text, file)
    try:
        documents: list[Any] = ryaml.loads_all(text) or []
    except (ryaml.InvalidYamlError, ValueError, OverflowError) as error:  # ValueError: a key that is a list or a mapping
        raise DocumentError(_syntax(str(error), text, file)) from error
    except RecursionError as error:
        raise DocumentError(_too_deep(file)) from error
    if sum(map(text.count, ":-?[{")) >= MAX_DEPTH:  # each level needs one of these
        for document in documents:
            if _depth(document) > MAX_DEPTH:
                raise DocumentError(_too_deep(file))
    return documents


def place(findings: Sequence[Finding], texts: Mapping[str, str], documents: Mapping[int, int] | None = None) -> list[Finding]:
    """The findings with line and column looked up from ``at`` in the texts of their files; others as they are.

    Each text is read once however many findings it has. *documents* gives the document of a finding by its index.
    """
    read: dict[str, Positions] = {}
    placed = []
    for index, finding in enumerate(findings):
        text = texts.get(finding.file)
        if finding.line or text is None:
            placed.append(finding)
            continue
        if finding.file not in read:
            read[finding.file] = Positions(text)
        line, column = read[finding.file].of(finding.at, (documents or {}).get(index, 0), key=True)
        placed.append(replace(finding, line=line, column=column))
    return placed


def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _compose(text: str) -> list[Any]:
    """The nodes of every document. Raises yaml.YAMLError, also for what is nested too deep.

    The C parser composes by recursion and would overflow the stack of the process on a hostile text, so depth is counted
    from its events first; a text of less than 2,000 characters cannot nest that deep.
    """
    import yaml

    mark = _deep_mark(text) if len(text) > _SHALLOW_CHARACTERS else None
    if mark is not None:
        raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=mark)
    return [node for node in yaml.compose_all(text, Loader=_loader()) if node is not None]


def _deep_mark(text: str) -> Any:
    """Where the text is nested deeper than twice what is allowed; None when it is not. Raises yaml.YAMLError."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 2 * MAX_DEPTH:
            return event.start_mark
    return None


def _refuse_deep(text: str, file: str) -> None:
    import yaml

    try:
        mark = _deep_mark(text)
    except yaml.YAMLError:
        return  # the reader proper reports the syntax; what comes before this place is not deep
    if mark is not None:
        raise DocumentError(replace(_too_deep(file), line=mark.line + 1, column=mark.column + 1))


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
    """Aliases multiply: a few hundred bytes can become gigabytes. Hand-written manifests hold a handful.

    Counts the nodes an anchor stands for, aliases within it written out, before anything is built.
    """
    if "*" not in text or "&" not in text:
        return
    import yaml

    try:
        for mark in _excess_aliases(yaml.parse(text, Loader=_loader())):
            raise DocumentError(
                Finding(code="NX-Y04", file=file, line=mark.line + 1, column=mark.column + 1,
                        message=f"aliases that stand for more than {_MAX_EXPANDED} values, or more than {_MAX_ALIASES} aliases",
                        hint="write the values out")
            )  # fmt: skip
    except yaml.YAMLError:
        return  # the reader proper reports the syntax


def _excess_aliases(events: Iterator[Any]) -> Iterator[Any]:
    import yaml

    weights: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchor and weight of the collections that are not closed yet
    aliases = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            weight = weights.get(event.anchor or "", 1)
            if aliases > _MAX_ALIASES or weight > _MAX_EXPANDED:
                yield event.start_mark
        elif isinstance(event, yaml.ScalarEvent):
            weight = 1
            if event.anchor:
                weights[event.anchor] = weight
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > 2 * MAX_DEPTH:
                return  # the reader refuses this depth, and this parser's time grows with its square
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, weight = open_.pop()
            if anchor:
                weights[anchor] = weight
        else:
            continue
        if open_:
            anchor, total = open_[-1]
            open_[-1] = (anchor, total + weight)
            if total + weight > _MAX_EXPANDED and aliases:
                yield event.start_mark


def _syntax(message: str, text: str, file: str) -> Finding:
    duplicate = _DUPLICATE.search(message)
    if duplicate is not None:
        found = _duplicate_key(text)
        line, column, name = found if found is not None else (0, 0, duplicate[1].strip('"'))
        return Finding(code="NX-Y07", file=file, line=line, column=column, message=f"the key {shown(name)} is given twice",
                       hint="keep one of the two")  # fmt: skip
    if "unhashable" in message:
        line, column = _collection_key(text)
        return Finding(code="NX-Y06", file=file, line=line, column=column, message="a key is a list or a mapping",
                       hint="keys are plain texts; quote one that begins with `[`, `{` or `?`")  # fmt: skip
    control = _CONTROL.search(text) if "control characters" in message else None
    if control is not None:
        line, column = text.count("\n", 0, control.start()) + 1, control.start() - text.rfind("\n", 0, control.start())
        told = f"the character U+{ord(control[0]):04X} cannot stand in YAML"
        return Finding(code="NX-Y06", file=file, line=line, column=column, message=told, hint="remove it; editors do not show it")
    match = _POSITION.search(message)
    if "recursion limit" in message and match is not None:
        return replace(_too_deep(file), line=int(match[1]), column=int(match[2]))
    line, column = (int(match[1]), int(match[2])) if match else (0, 0)
    tab = _TAB.search(text)
    mending = next((advice for part, advice in _MENDING if part in message), "")
    hint = "YAML is indented with spaces, not tabs" if tab else mending
    if not line and tab:
        line, column = text.count("\n", 0, tab.end() - 1) + 1, 1
    elif not line:
        line, column = Positions(text).of(())
    return Finding(code="NX-Y06", file=file, line=line, column=column, message=f"not valid YAML: {printable(message)}", hint=hint)


def _duplicate_key(text: str) -> tuple[int, int, str] | None:
    """Line, column and name of the first key that repeats one of its mapping; the fast reader does not say where."""
    import yaml

    try:
        stack = _compose(text)
    except yaml.YAMLError:
        return None
    found: list[tuple[int, int, str]] = []
    visited: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            names: set[tuple[str, str]] = set()
            for key, value in node.value:
                stack.append(value)
                name = (key.tag, str(key.value))
                if name in names:
                    found.append((key.start_mark.line + 1, key.start_mark.column + 1, str(key.value)))
                names.add(name)
    return min(found, default=None)


def _second_document(text: str) -> tuple[int, int]:
    """Line and column at which the second document begins."""
    import yaml

    starts = (event.start_mark for event in yaml.parse(text, Loader=_loader()) if isinstance(event, yaml.DocumentStartEvent))
    try:
        mark = next(islice(starts, 1, None), None)
    except yaml.YAMLError:
        mark = None
    return (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)


def _collection_key(text: str) -> tuple[int, int]:
    """Line and column of the first key that is a list or a mapping."""
    import yaml

    try:
        stack = _compose(text)
    except yaml.YAMLError:
        return (1, 1)
    found: list[tuple[int, int]] = []
    visited: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in visited or not isinstance(node, yaml.CollectionNode):
            continue
        visited.add(id(node))
        for part in node.value:
            key, *parts = part if isinstance(part, tuple) else (part,)
            if parts and isinstance(key, yaml.CollectionNode):
                found.append((key.start_mark.line + 1, key.start_mark.column + 1))
            stack += [key, *parts]
    return min(found, default=(1, 1))


def _too_deep(file: str) -> Finding:
    return Finding(code="NX-Y05", file=file, message=f"the document is nested deeper than {MAX_DEPTH} levels", hint="flatten it")


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, level = stack.pop()
        deepest = max(deepest, level)
        if deepest > MAX_DEPTH:
            break
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        stack.extend((child, level + 1) for child in children if isinstance(child, (dict, list)))
    return deepest
