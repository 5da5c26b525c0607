"""What a distribution's modules import, and whether its metadata declares where that comes from (REQ-1.4). Pure.

Modules are parsed, never run. An import counts as required when nothing guards it; imports under ``try``/``ImportError``, under a
condition, or inside a function are optional; those under ``TYPE_CHECKING`` do not count. Used by ``packagefacts``.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from packaging.utils import canonicalize_name

REQUIRED, OPTIONAL = "required", "optional"
MAX_MODULE_BYTES = 2 * 1024 * 1024
_GONE = {"asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "distutils", "imp", "nntplib", "smtpd", "telnetlib"}
_LATER = {"annotationlib", "compression", "_colorize"}  # of 3.14; packages import them under a test of the version
EDITION = 2  # one more whenever imports are read or placed in another way: what was kept before is read again
_STANDARD = frozenset(sys.stdlib_module_names) | _GONE | _LATER | {"__main__", "_typeshed"}
_TESTS = ("tests", "test", "testing", "conftest", "docs", "examples", "benchmarks")

# Import names that differ from the distribution's name; several distributions may provide one. Facts of the named projects.
PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "attr": ("attrs",),
    "bs4": ("beautifulsoup4",),
    "Crypto": ("pycryptodome",),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "dateutil": ("python-dateutil",),
    "dotenv": ("python-dotenv",),
    "git": ("gitpython",),
    "grpc": ("grpcio",),
    "jwt": ("pyjwt",),
    "markdown_it": ("markdown-it-py",),
    "mpl_toolkits": ("matplotlib",),
    "OpenSSL": ("pyopenssl",),
    "osgeo": ("gdal",),
    "PIL": ("pillow",),
    "pkg_resources": ("setuptools",),
    "psycopg2": ("psycopg2", "psycopg2-binary"),
    "serial": ("pyserial",),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "yaml": ("pyyaml",),
    "zmq": ("pyzmq",),
}


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """One imported top-level name, how (required or optional), and the first place."""

    name: str
    kind: str
    file: str
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """The imports of some modules, strongest kind first, and the files that could not be parsed."""

    imports: tuple[Import, ...]
    unreadable: tuple[str, ...] = ()


def scan(modules: Mapping[str, bytes]) -> Scan:
    """What the modules (path in the wheel → source) import beyond the standard library and their own top-level names."""
    own = own_names(modules)
    found: dict[str, Import] = {}
    unreadable = []
    for path in sorted(modules):
        tree = _parse(modules[path])
        if tree is None:
            unreadable.append(path)
            continue
        parts = [part.removesuffix(".py") for part in path.split("/")]
        side = any(part.lstrip("_") in _TESTS or not part.isidentifier() for part in parts)  # nothing else imports these
        for name, line, kind in _walk(tree):
            top = name.partition(".")[0]
            if top in own or top in _STANDARD or not top:
                continue
            item = Import(name=top, kind=OPTIONAL if side else kind, file=path, line=line)
            known = found.get(top)
            if known is None or (known.kind == OPTIONAL and item.kind == REQUIRED):
                found[top] = item
    return Scan(
        imports=tuple(sorted(found.values(), key=lambda item: (item.kind != REQUIRED, item.name))), unreadable=tuple(unreadable)
    )


def own_names(paths: Iterable[str]) -> frozenset[str]:
    """Top-level import names that files of these paths provide."""
    tops = set()
    for path in paths:
        first, _, rest = path.partition("/")
        if first.endswith((".dist-info", ".data", ".egg-info")):
            continue
        tops.add(first if rest else first.partition(".")[0])
    return frozenset(tops)


def undeclared(
    imports: Iterable[Import], declared: Iterable[str], provides: Mapping[str, frozenset[str]]
) -> tuple[tuple[Import, ...], tuple[Import, ...]]:
    """(imports no declared dependency provides, imports nobody can place).

    *declared* are normalised distribution names; *provides* the import names of those whose files are known.
    """
    names = frozenset(declared)
    unknown = names - provides.keys()
    missing: list[Import] = []
    unplaced: list[Import] = []
    for item in imports:
        candidates = {canonicalize_name(item.name), *PROVIDERS.get(item.name, ())}
        if candidates & names or any(item.name in provides[name] for name in provides.keys() & names):
            continue
        certain = not unknown or item.name in PROVIDERS
        (missing if certain else unplaced).append(item)
    return tuple(missing), tuple(unplaced)


def _parse(source: bytes) -> ast.Module | None:
    if len(source) > MAX_MODULE_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code are not ours to report
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _walk(tree: ast.Module) -> list[tuple[str, int, str]]:
    """(dotted name, line, kind) of every absolute import; without recursion, so that deep code cannot exhaust the stack."""
    found: list[tuple[str, int, str]] = []
    stack: list[tuple[ast.AST, str]] = [(node, REQUIRED) for node in tree.body]
    while stack:
        node, kind = stack.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, kind) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module:
                found.append((node.module, node.lineno, kind))
        elif isinstance(node, ast.If):
            if not _typing_only(node.test):
                stack += [(child, OPTIONAL) for child in node.body]
            stack += [(child, OPTIONAL) for child in node.orelse]
        elif isinstance(node, ast.Try):
            guarded = OPTIONAL if any(_catches_imports(handler) for handler in node.handlers) else kind
            stack += [(child, guarded) for child in (*node.body, *node.orelse)]
            stack += [(child, guarded) for handler in node.handlers for child in handler.body]
            stack += [(child, kind) for child in node.finalbody]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            stack += [(child, OPTIONAL) for child in node.body]
        else:
            stack += [
                (child, kind)
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
            ]
    return found


def _typing_only(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {
        item.id if isinstance(item, ast.Name) else item.attr if isinstance(item, ast.Attribute) else ""
        for item in kinds
        if item is not None
    }
    return handler.type is None or bool(names & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
