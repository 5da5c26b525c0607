"""Texts of manifests: new ones that are valid, and edits in place that keep comments and order. Pure; called by ``editing``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any

from nexus.catalog.formats import normalise
from nexus.catalog.schema import VARIANTS
from nexus.kernel.documents import Path, Positions

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*|\./[A-Za-z0-9._/-]+")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_REQUIREMENT = re.compile(r"(\s*)([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(.*)", re.DOTALL)


def scalar(text: str) -> str:
    """The text as a YAML scalar, quoted where it could be read as something else."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text, ensure_ascii=False)


def package_manifest(name: str, owners: Sequence[str], *, docs: str = "", variants: Sequence[str] = ()) -> str:
    """A valid ``nexus.yaml``."""
    lines = ["package:", f"  name: {scalar(name)}"]
    if owners:
        lines.append(f"  owners: [{', '.join(scalar(owner) for owner in owners)}]")
    if variants:
        lines.append(f"  variants: [{', '.join(variants)}]")
    if docs:
        lines.append(f"  docs: {scalar(docs)}")
    return "\n".join(lines) + "\n"


def model_manifest(id_: str, *, owner: str = "", vllm: bool = False, tests: bool = False) -> str:
    """A valid ``model.yaml``; with ``tests``, one whose test is the module :func:`test_module` writes."""
    lines = ["model:", f"  id: {scalar(id_)}"]
    if owner:
        lines.append(f"  owner: {scalar(owner)}")
    if vllm:
        lines += ["  vllm:", "    enabled: true"]
    if tests:
        lines += [
            "  testing:",
            "    hardware:",
            "      minimum:",
            "        cpu: {cores: 2}",
            "        memory: 8Gi",
            "      cpu_only: true",
            "    commands:",
            "      - python -m pytest tests/test_inference.py",
            "    scenarios:",
            "      - name: one input",
            "        kind: inference",
            "        checks: the output of one input is what it should be",
        ]
        if vllm:
            lines += ["      - name: served", "        kind: vllm", "        checks: vLLM loads the model and answers one request"]
        lines.append("    time_limit: 20m")
    return "\n".join(lines) + "\n"


def usage_page(id_: str, package: str) -> str:
    """A usage page that says what is known: the package to install and the repository to load."""
    title = id_.rpartition("/")[2]
    return (
        f"# Using {title}\n\n`{id_}` is a model of the package `{package}`.\n\n"
        f"## Install\n\n```bash\npip install {package}\n```\n\n"
        f"## Load\n\nThe weights and the model card are at <https://huggingface.co/{id_}>.\n"
    )


def test_module(id_: str, *, vllm: bool) -> str:
    """A test module whose tests fail until somebody writes them."""
    tests = [("test_one_input", "One input gives the output it should")]
    if vllm:
        tests.append(("test_served_by_vllm", "vLLM loads the model and answers one request"))
    body = "".join(f'\n\ndef {name}() -> None:\n    """{fact}."""\n    pytest.fail("not written yet")\n' for name, fact in tests)
    return f'"""Tests of {id_}."""\n\nimport pytest\n{body}'


def replace_scalar(text: str, at: Path, value: str) -> str:
    """The YAML text with the scalar at *at* replaced; all else stays as it is. Raises KeyError when there is none."""
    span = Positions(text).span(at)
    if span is None:
        raise KeyError(at)
    ended = "\n" if text[span[0] : span[1]].endswith("\n") else ""  # a block scalar ends with its line
    return text[: span[0]] + scalar(value) + ended + text[span[1] :]


def remove_item(text: str, at: Path) -> str:
    """The YAML text without one item of a list, the comments above it included. Raises KeyError when there is none.

    The last item leaves ``[]`` behind, so that the key keeps its type.
    """
    positions = Positions(text)
    span, parent = positions.span(at), positions.span(at[:-1])
    if span is None or parent is None:
        raise KeyError(at)
    last = at[-1]
    assert isinstance(last, int)
    following = positions.span((*at[:-1], last + 1))
    previous = positions.span((*at[:-1], last - 1)) if last else None
    if text[parent[0]] == "[":
        if following is not None:
            return text[: span[0]] + text[following[0] :]
        return text[: previous[1] if previous is not None else parent[0] + 1] + text[span[1] :]
    begin = _item_start(text, span[0])
    end = _item_start(text, following[0]) if following is not None else _end_of_lines(text, span[0], span[1])
    if following is None and previous is None:
        line, column = positions.of(at[:-1], key=True)
        key = text.index(":", sum(map(len, text.splitlines(keepends=True)[: line - 1])) + column - 1) + 1
        return f"{text[:key]} []{text[key:begin]}{text[end:]}"
    return text[:begin] + text[end:]


def _item_start(text: str, index: int) -> int:
    """Where the line of a block list's item begins, or the first comment of its own above it, indented like it at most."""
    start = text.rfind("\n", 0, index) + 1
    indent = len(text[start:index]) - len(text[start:index].lstrip())
    while start:
        above = text.rfind("\n", 0, start - 1) + 1
        comment = text[above:start].lstrip()
        if not comment.startswith("#") or start - above - len(comment) > indent:
            break
        start = above
    return start


def _end_of_lines(text: str, begin: int, end: int) -> int:
    """The end of the last line between these places that holds more than a comment."""
    lines = text[begin:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].strip().startswith("#")):
        lines.pop()
    stop = begin + sum(map(len, lines))
    return stop if text[:stop].endswith("\n") else (text.find("\n", stop) + 1 or len(text))


def add_requirement(text: str, variants: Sequence[str], requirement: str) -> str:
    """The project file with a requirement added to the extras of these variants, in alphabetical place where they are sorted."""

    def add(requirements: Any) -> None:
        names = [normalise(str(one)) for one in requirements]
        place = len(names)
        if names == sorted(names):
            place = next((n for n, name in enumerate(names) if name > normalise(requirement)), len(names))
        if place < len(names) and "\n" not in requirements.as_string():
            later = [str(one) for one in requirements[place:]]  # tomlkit forgets the space after what it inserts in a line
            del requirements[place:]
            requirements.extend([requirement, *later])
        elif place < len(names):
            requirements.insert(place, requirement)
        else:
            requirements.append(requirement)

    return _edit_extras(text, variants, add)


def rename_requirement(text: str, old: str, new: str) -> str:
    """The project file with the package renamed in its extras and in ``[tool.uv.sources]``."""

    def rename(requirements: MutableSequence[Any]) -> None:
        for index, one in enumerate(requirements):
            match = _REQUIREMENT.fullmatch(str(one))
            if match is not None and normalise(match[2]) == normalise(old):
                requirements[index] = f"{match[1]}{new}{match[3]}"

    def rename_source(sources: Any) -> None:
        for key in [key for key in sources if normalise(key) == normalise(old)]:
            sources[new] = sources.pop(key)

    return _edit_extras(text, VARIANTS, rename, rename_source)


def remove_requirement(text: str, name: str) -> str:
    """The project file without the package in its extras and in ``[tool.uv.sources]``."""

    def remove(requirements: MutableSequence[Any]) -> None:
        for index in reversed(range(len(requirements))):
            match = _REQUIREMENT.fullmatch(str(requirements[index]))
            if match is not None and normalise(match[2]) == normalise(name):
                del requirements[index]

    def remove_source(sources: Any) -> None:
        for key in [key for key in sources if normalise(key) == normalise(name)]:
            del sources[key]

    return _edit_extras(text, VARIANTS, remove, remove_source)


def _edit_extras(
    text: str,
    variants: Sequence[str],
    edit: Callable[[MutableSequence[Any]], None],
    edit_sources: Callable[[Any], None] | None = None,
) -> str:
    import tomlkit

    document: Any = tomlkit.parse(text)
    extras = document.get("project", {}).get("optional-dependencies", {})
    for variant in variants:
        if variant in extras:
            edit(extras[variant])
    sources = document.get("tool", {}).get("uv", {}).get("sources")
    if edit_sources is not None and sources is not None:
        edit_sources(sources)
    return tomlkit.dumps(document)
