"""The read-only views of a registry root that the service shows under ``/algorithm/latest/registry``.

Each view reads the tree as it is when it is asked for; what a file held that did not change is remembered. Nothing here
asks the network: variants are what is committed, audits use the snapshot the registry names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nexus.kernel.clock import SystemClock
from nexus.kernel.documents import shown
from nexus.kernel.errors import UnknownName

if TYPE_CHECKING:
    from nexus.catalog.checks import Report
    from nexus.catalog.snapshot import Snapshot

View = Callable[[Mapping[str, str]], Any]


def views(root: str) -> dict[str, View]:
    """Name → view of the registry at *root*. Raises NotARegistry when the folder is none."""
    from nexus.adapters import checkout

    one = _Registry(checkout.find_root(Path(root)))
    return {
        "packages": one.packages,
        "models": one.models,
        "owners": one.owners,
        "findings": one.findings,
        "variants": one.variants,
        "matrix": one.matrix,
        "audit": one.audit,
    }


class _Registry:
    """One registry root."""

    def __init__(self, root: Path) -> None:
        from nexus.catalog import snapshot

        self._root = root
        self._memory = snapshot.Memory()
        self._reading = threading.Lock()  # views run in threads

    def _read(self) -> tuple[Snapshot, Report]:
        from nexus.adapters import checkout
        from nexus.catalog import checks, snapshot

        with self._reading:
            registry = snapshot.build(checkout.read_folder(checkout.find_root(self._root)), self._memory)
            return registry, checks.check(registry, SystemClock().now().date(), self._memory)

    def packages(self, query: Mapping[str, str]) -> Any:
        """Every package, or with ``name`` everything about one."""
        from nexus.catalog import views as catalog_views

        registry, report = self._read()
        if "name" not in query:
            return catalog_views.packages(registry, report)
        return catalog_views.package(registry, _there(registry.package(query["name"]), "package", query["name"]), report)

    def models(self, query: Mapping[str, str]) -> Any:
        """Every model, or with ``name`` one; with ``variant`` those supported there, and those left out."""
        from nexus.catalog import views as catalog_views

        registry, report = self._read()
        if "name" in query:
            return catalog_views.model(registry, *_there(registry.model(query["name"]), "model", query["name"]))
        if "variant" not in query:
            return catalog_views.models(registry)
        _known(query["variant"], catalog_views.variants(registry))
        supported, left_out = catalog_views.supported(registry, report, query["variant"])
        return {"variant": query["variant"], "supported": supported, "leftOut": left_out}

    def owners(self, query: Mapping[str, str]) -> Any:
        """Every owner, or with ``name`` what one answers for."""
        from nexus.catalog import views as catalog_views

        rows = catalog_views.owners(self._read()[0])
        return _row(rows, "owner", query["name"], "owner") if "name" in query else rows

    def findings(self, query: Mapping[str, str]) -> Any:
        """Every finding, or with ``name`` those of one package."""
        from nexus.catalog import views as catalog_views

        registry, report = self._read()
        if "name" not in query:
            return catalog_views.findings(report)
        return catalog_views.findings(report, _there(registry.package(query["name"]), "package", query["name"]).path)

    def variants(self, query: Mapping[str, str]) -> Any:
        """The variants; with ``variant`` (or ``name``) the pins of one."""
        from nexus.variants import views as variant_views

        declaration, committed = self._committed()
        if asked := query.get("name") or query.get("variant"):
            return variant_views.pins(_known(asked, declaration.variants), committed)
        return variant_views.variants(declaration, committed)

    def matrix(self, query: Mapping[str, str]) -> Any:
        """The version of each package in each variant, or with ``name`` of one package."""
        from nexus.variants import views as variant_views

        declaration, committed = self._committed()
        rows = variant_views.matrix(declaration, committed, list(declaration.variants), members="name" not in query)
        return _row(rows, "package", query["name"], "package") if "name" in query else rows

    def audit(self, query: Mapping[str, str]) -> Any:
        """The verdicts of every variant, or of the one named by ``variant`` (or ``name``)."""
        from nexus.adapters import auditfiles
        from nexus.variants import auditviews

        asked = query.get("name") or query.get("variant")
        chosen = (_known(asked, auditfiles.read_declaration(self._root).variants),) if asked else ()
        inputs = auditfiles.read(self._root, chosen)
        return auditviews.summary(inputs.report(SystemClock().now()))

    def _committed(self) -> tuple[Any, Any]:
        from nexus.adapters import auditfiles, history
        from nexus.variants import resolution

        declaration = auditfiles.read_declaration(self._root)
        names = list(declaration.variants)
        return declaration, resolution.read_committed(history.read_texts(self._root, resolution.files_of(names)), names)


_Thing = TypeVar("_Thing")


def _there(one: _Thing | None, what: str, name: str) -> _Thing:
    """What was looked for. Raises UnknownName when it is not there."""
    if one is None:
        raise UnknownName(f"the registry has no {what} {shown(name)}", hint="ask without a name for all of them")
    return one


def _row(rows: Sequence[Mapping[str, Any]], key: str, name: str, what: str) -> Mapping[str, Any]:
    return _there(next((row for row in rows if str(row[key]).lower() == name.lower()), None), what, name)


def _known(variant: str, names: Iterable[str]) -> str:
    """The variant's name. Raises UnknownName."""
    known = list(names)
    if variant not in known:
        raise UnknownName(f"the registry has no variant {shown(variant)}", hint=f"it has `{'`, `'.join(known)}`")
    return variant
