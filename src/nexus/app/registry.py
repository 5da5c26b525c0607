"""The read-only views of a registry root that the service shows under ``/algorithm/latest/registry``.

Each view reads the tree as it is when it is asked for; what a file held that did not change is remembered. Nothing here
asks the network: variants are what is committed, audits use the snapshot the registry names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.kernel.clock import SystemClock
from nexus.kernel.errors import UnknownName

if TYPE_CHECKING:
    from nexus.catalog.checks import Report
    from nexus.catalog.snapshot import Snapshot

View = Callable[[Mapping[str, str]], Any]


def views(root: str) -> dict[str, View]:
    """Name → view of the registry at *root*. Raises NotARegistry when the folder is none."""
    from nexus.adapters import checkout

    shown = _Registry(checkout.find_root(Path(root)))
    return {
        "packages": shown.packages,
        "models": shown.models,
        "owners": shown.owners,
        "findings": shown.findings,
        "variants": shown.variants,
        "matrix": shown.matrix,
        "audit": shown.audit,
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
            registry = snapshot.build(checkout.read_folder(self._root), self._memory)
            return registry, checks.check(registry, SystemClock().now().date(), self._memory)

    def packages(self, query: Mapping[str, str]) -> Any:
        """Every package, or with ``name`` everything about one."""
        from nexus.catalog import views as catalog_views

        registry, report = self._read()
        if "name" not in query:
            return catalog_views.packages(registry, report)
        one = registry.package(query["name"])
        if one is None:
            raise UnknownName(f"the registry has no package `{query['name'][:64]}`", hint="ask without `name` for all of them")
        return catalog_views.package(registry, one, report)

    def models(self, query: Mapping[str, str]) -> Any:
        """Every model; with ``variant`` those supported there, and those left out."""
        from nexus.catalog import views as catalog_views

        registry, report = self._read()
        if "variant" not in query:
            return catalog_views.models(registry)
        _known(query["variant"], catalog_views.variants(registry))
        supported, left_out = catalog_views.supported(registry, report, query["variant"])
        return {"variant": query["variant"], "supported": supported, "leftOut": left_out}

    def owners(self, _: Mapping[str, str]) -> Any:
        from nexus.catalog import views as catalog_views

        return catalog_views.owners(self._read()[0])

    def findings(self, _: Mapping[str, str]) -> Any:
        from nexus.catalog import views as catalog_views

        return catalog_views.findings(self._read()[1])

    def variants(self, query: Mapping[str, str]) -> Any:
        """The variants; with ``variant`` the pins of one."""
        from nexus.variants import views as variant_views

        declaration, committed = self._committed()
        if "variant" in query:
            return variant_views.pins(_known(query["variant"], declaration.variants), committed)
        return variant_views.variants(declaration, committed)

    def matrix(self, _: Mapping[str, str]) -> Any:
        from nexus.variants import views as variant_views

        declaration, committed = self._committed()
        return variant_views.matrix(declaration, committed, list(declaration.variants), members=True)

    def audit(self, query: Mapping[str, str]) -> Any:
        """The verdicts of every variant, or of the one named by ``variant``."""
        from nexus.adapters import auditfiles
        from nexus.variants import auditviews

        inputs = auditfiles.read(self._root, (query["variant"],) if "variant" in query else ())
        return auditviews.summary(inputs.report(SystemClock().now()))

    def _committed(self) -> tuple[Any, Any]:
        from nexus.adapters import auditfiles, history
        from nexus.variants import resolution

        declaration = auditfiles.read_declaration(self._root)
        names = list(declaration.variants)
        return declaration, resolution.read_committed(history.read_texts(self._root, resolution.files_of(names)), names)


def _known(variant: str, names: Iterable[str]) -> str:
    """The variant's name. Raises UnknownName."""
    known = list(names)
    if variant not in known:
        raise UnknownName(f"the registry has no variant `{variant[:64]}`", hint=f"it has `{'`, `'.join(known)}`")
    return variant
