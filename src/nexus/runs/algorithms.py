"""What can be run: the current templates and workgroups, in memory, over a store that keeps every revision."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence

import msgspec

from nexus.kernel.clock import Clock
from nexus.kernel.documents import Finding
from nexus.kernel.errors import Forbidden, InvalidTemplate, UnknownAlgorithm, UnknownWorkgroup
from nexus.runs.configuration import Configuration, merge
from nexus.runs.fields import NO_WORKGROUP
from nexus.runs.ports import ManifestStore, StoredManifest
from nexus.runs.templates import DEFAULT_WORKGROUP, Manifest, Template, Workgroup

TEMPLATE = "NexusAlgorithmTemplate"
WORKGROUP = "NexusAlgorithmWorkgroup"


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What one manifest's apply did: ``created``, ``updated``, ``unchanged`` or ``removed``."""

    kind: str
    name: str
    revision: int
    change: str


class Algorithms:
    """The registry of the running service. Reads are plain dictionary look-ups; ``apply`` writes through the store."""

    def __init__(self, store: ManifestStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._templates: dict[str, Template] = {}
        self._workgroups: dict[str, Workgroup] = {}
        self._revisions: dict[tuple[str, int], Template] = {}
        self._stored: dict[tuple[str, str], StoredManifest] = {}
        self._applying = asyncio.Lock()

    async def load(self) -> None:
        """Reads the current revisions from the store; called once before anything is accepted."""
        for manifest in await self._store.current():
            self._keep(manifest)

    def find(self, name: str) -> Template:
        """The current template. Raises UnknownAlgorithm with the nearest names."""
        template = self._templates.get(name)
        if template is None:
            near = difflib.get_close_matches(name[:256], self._templates, n=3)
            hint = f"did you mean `{'`, `'.join(near)}`?" if near else "`nexus algorithms list` shows what is registered"
            raise UnknownAlgorithm(f"No valid configuration found for: `{name[:256]}`", hint=hint)
        return template

    async def at(self, name: str, revision: int) -> Template:
        """The template as it was at *revision*. Raises UnknownAlgorithm."""
        known = self._revisions.get((name, revision))
        if known is None:
            stored = await self._store.at(TEMPLATE, name, revision)
            if stored is None:
                raise UnknownAlgorithm(f"revision `{revision}` of `{name}` is not kept")
            known = self._revisions[(name, revision)] = Template.from_stored(stored)
        return known

    def workgroup_of(self, configuration: Configuration) -> Workgroup:
        """The workgroup a configuration names; the built-in one when it names none. Raises UnknownWorkgroup."""
        name = configuration.workgroup
        if name is None:
            return self._workgroups.get(DEFAULT_WORKGROUP.name, DEFAULT_WORKGROUP)
        found = self._workgroups.get(name) or (DEFAULT_WORKGROUP if name == DEFAULT_WORKGROUP.name else None)
        if found is None:
            raise UnknownWorkgroup(
                f"Cannot assign requested workgroup `{name}`: it is not registered",
                hint=f"registered: `{'`, `'.join(sorted(self._workgroups) or [DEFAULT_WORKGROUP.name])}`",
            )
        return found

    def lost_workgroups(self) -> list[Finding]:
        """A warning for each template whose workgroup nobody registered: its runs are refused until somebody does."""
        found = []
        for template in self.templates():
            try:
                self.workgroup_of(merge(template, None))
            except UnknownWorkgroup as error:
                name = template.sections["workgroupRef"]["name"]
                stored = self.stored(TEMPLATE, template.name)
                message = f"`{template.name}` names the workgroup `{name}`, which is not registered: its runs are refused"
                source = stored.source if stored else ""
                found.append(Finding(code=NO_WORKGROUP, file=source, message=message, hint=error.hint, severity="warning"))
        return found

    def templates(self) -> list[Template]:
        return [self._templates[name] for name in sorted(self._templates)]

    def workgroups(self) -> list[Workgroup]:
        named = {DEFAULT_WORKGROUP.name: DEFAULT_WORKGROUP, **self._workgroups}
        return [named[name] for name in sorted(named)]

    def stored(self, kind: str, name: str) -> StoredManifest | None:
        """The manifest behind a current template or workgroup."""
        return self._stored.get((kind, name))

    async def apply(self, manifests: Sequence[Manifest], *, trusted: bool, prune: bool = False) -> list[Applied]:
        """Stores manifests and makes them current; with *prune*, what is not among them is removed. All of it or nothing, also
        when the service dies meanwhile.

        Raises InvalidTemplate (a name twice, or in another namespace) and Forbidden (local annotations from a caller who may
        not run code on this machine).
        """
        # shielded: what the store takes must become current here too, though the caller has gone away
        return await asyncio.shield(self._apply(manifests, trusted=trusted, prune=prune))

    async def _apply(self, manifests: Sequence[Manifest], *, trusted: bool, prune: bool) -> list[Applied]:
        async with self._applying:  # one after the other, or an older revision could end up as the current one
            self._check(manifests, trusted=trusted)
            now = self._clock.now()
            before = dict(self._stored)
            changed = await self._store.put(
                [
                    StoredManifest(
                        kind=manifest.kind,
                        name=manifest.name,
                        namespace=manifest.namespace,
                        revision=0,
                        body=manifest.body,
                        source=manifest.source,
                        trusted=trusted,
                        stored_at=now,
                    )
                    for manifest in manifests
                ],
                prune=prune,
            )
            return [self._take(manifest, before.get((manifest.kind, manifest.name))) for manifest in changed]

    def _take(self, manifest: StoredManifest, was: StoredManifest | None) -> Applied:
        """Makes what the store did to a manifest current, and says what that was."""
        if manifest.removed:
            self._stored.pop((manifest.kind, manifest.name), None)
            (self._templates if manifest.kind == TEMPLATE else self._workgroups).pop(manifest.name, None)
            change = "removed"
        else:
            self._keep(manifest)
            change = "created" if was is None else "unchanged" if was.revision == manifest.revision else "updated"
        return Applied(kind=manifest.kind, name=manifest.name, revision=manifest.revision, change=change)

    def _check(self, manifests: Sequence[Manifest], *, trusted: bool) -> None:
        seen: dict[tuple[str, str], Manifest] = {}
        for manifest in manifests:
            key = (manifest.kind, manifest.name)
            if key in seen:
                raise InvalidTemplate(
                    f"`{manifest.name}` ({manifest.kind}) is given twice: in `{seen[key].source}` and `{manifest.source}`",
                    hint="keep one of the two",
                )
            seen[key] = manifest
            was = self._stored.get(key)
            if was is not None and was.namespace != manifest.namespace:
                raise InvalidTemplate(
                    f"`{manifest.name}` is registered in namespace `{was.namespace}`, not `{manifest.namespace}`",
                    hint="names are unique over all namespaces here: rename one, or use the same namespace",
                )
            if not trusted and b'"local.nexus/' in manifest.body:
                raise Forbidden(
                    f"`{manifest.name}` has `local.nexus/` annotations, which run code on the service's machine",
                    hint="apply it with a token that has the scope `operate`, or start the service with the file",
                )

    def _keep(self, manifest: StoredManifest) -> None:
        self._stored[(manifest.kind, manifest.name)] = manifest
        if manifest.kind == TEMPLATE:
            template = Template.from_stored(manifest)
            self._templates[manifest.name] = template
            self._revisions[(manifest.name, manifest.revision)] = template
        else:
            self._workgroups[manifest.name] = Workgroup.from_stored(manifest)
