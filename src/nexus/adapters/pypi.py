"""PyPI's own advisory field: ``vulnerabilities`` of the JSON API of one release.

The field speaks of one version and names no ranges, so its snapshot covers ``name==version`` and nothing else. A release whose
page is missing, or has no such field, fails the whole: mirrors often leave the field out or empty the page. `nexus advisories
update` calls it.

Source: PyPI's documentation of its JSON API (GET /pypi/<project>/<version>/json).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import msgspec

from nexus.adapters.advisories import Reading
from nexus.adapters.advisoryservice import exchange
from nexus.kernel.documents import Finding
from nexus.kernel.errors import Unavailable
from nexus.variants import advisories
from nexus.variants.advisories import Advisory
from nexus.variants.auditsnapshot import Source

_THREADS = 8


def service_of(index: str) -> str:
    """Where an index's JSON API is: beside its simple pages."""
    return index.rstrip("/").removesuffix("/simple")


def fetch(pins: Mapping[str, set[str]], service: str) -> Reading:
    """What PyPI says of each pinned version. Raises Unavailable when any release has no answer."""
    wanted = sorted((name, version) for name, versions in pins.items() for version in versions)
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(pool.map(lambda pin: _release(service, *pin), wanted))
    held: dict[tuple[str, str], Advisory] = {}
    findings: list[Finding] = []
    for (name, version), entries in zip(wanted, answers, strict=True):
        for entry in entries:
            found = _advisory(entry, name, version)
            if found is None:
                place = f"{name}/{version}"
                findings.append(
                    Finding(
                        code="NX-A02",
                        file=place,
                        message="an entry of `vulnerabilities` has no usable `id`",
                        hint="report it to the index",
                    )
                )
                continue
            known = held.get((found.id, name))
            merged = found if known is None else msgspec.structs.replace(found, versions=(*known.versions, *found.versions))
            held[(found.id, name)] = merged
    digest = hashlib.sha256(msgspec.json.encode(answers, order="sorted")).hexdigest()
    source = Source(name=service, kind="pypi", records=sum(map(len, answers)), sha256=digest)
    covers = frozenset(f"{name}=={version}" for name, version in wanted)
    return Reading(advisories=tuple(held.values()), findings=tuple(findings), sources=(source,), covers=covers)


def _release(service: str, name: str, version: str) -> list[Any]:
    address = f"{service.rstrip('/')}/pypi/{quote(name)}/{quote(version)}/json"
    answer = exchange(address)
    if answer is None:
        raise Unavailable(
            f"the index has no page of `{name}=={version}`: it cannot be audited there",
            hint="a mirror may not serve it; use `osv` or an archive",
        )
    try:
        page = msgspec.json.decode(answer)
    except msgspec.DecodeError as error:
        raise Unavailable(f"the index sent no JSON for `{name}=={version}`: {error}") from error
    entries = page.get("vulnerabilities") if isinstance(page, dict) else None
    if not isinstance(entries, list):
        raise Unavailable(
            f"the index says nothing of vulnerabilities for `{name}=={version}`", hint="use `osv` or an archive as the source"
        )
    return entries


def _advisory(entry: Any, name: str, version: str) -> Advisory | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    text = " ".join(str(entry.get("summary") or entry.get("details") or "").split())
    return Advisory(
        id=entry["id"][:128],
        package=name,
        aliases=_texts(entry.get("aliases")),
        summary=text[:300],
        versions=(advisories.spelled(version),),
        fixes=tuple(fix for fix in _texts(entry.get("fixed_in")) if advisories.parse(fix) is not None),
        withdrawn=str(entry.get("withdrawn") or ""),
        url=advisories.link(entry.get("link")),
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item[:128] for item in value if isinstance(item, str)) if isinstance(value, list) else ()
