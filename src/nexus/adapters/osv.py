"""A live OSV service: every advisory of the packages a lock pins.

Asks ``POST /v1/query`` for each package, page by page. The answers become a snapshot that covers exactly those packages; one
question without an answer fails the whole, because half a snapshot would let the other half pass. Called by `nexus
advisories update`.

Source: https://google.github.io/osv.dev/post-v1-query/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from nexus.adapters.advisories import Reading
from nexus.adapters.advisoryservice import exchange
from nexus.kernel.documents import Finding
from nexus.kernel.errors import Unavailable
from nexus.variants import advisories
from nexus.variants.advisories import ECOSYSTEM, Advisory
from nexus.variants.auditsnapshot import Source

SERVICE = "https://api.osv.dev"
_MAX_PAGES = 200
_THREADS = 8


def fetch(packages: Iterable[str], service: str = SERVICE) -> Reading:
    """The advisories of *packages* (normalised names). Raises Unavailable when any question is not answered."""
    names = sorted(set(packages))
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(pool.map(lambda name: _query(service, name), names))
    held: dict[tuple[str, str], Advisory] = {}
    findings: list[Finding] = []
    for name, records in zip(names, answers, strict=True):
        for record in records:
            identity = str(record.get("id", "?")) if isinstance(record, dict) else "?"
            found, wrong = advisories.read_record(record, f"{name}/{identity}")
            findings += wrong
            held.update({(item.id, item.package): item for item in found if item.package == name})
    digest = hashlib.sha256(msgspec.json.encode(answers, order="sorted")).hexdigest()
    source = Source(name=service, kind="osv", records=sum(map(len, answers)), sha256=digest)
    return Reading(advisories=tuple(held.values()), findings=tuple(findings), sources=(source,), covers=frozenset(names))


def _query(service: str, package: str) -> list[Any]:
    """Every record of one package, through all pages."""
    records: list[Any] = []
    token = ""
    for _ in range(_MAX_PAGES):
        question: dict[str, Any] = {"package": {"name": package, "ecosystem": ECOSYSTEM}}
        if token:
            question["page_token"] = token
        answer = exchange(f"{service.rstrip('/')}/v1/query", msgspec.json.encode(question))
        try:
            page = msgspec.json.decode(answer) if answer is not None else None
        except msgspec.DecodeError as error:
            raise Unavailable(f"the OSV service sent no JSON for `{package}`: {error}") from error
        if not isinstance(page, dict) or not isinstance(page.get("vulns", []), list):
            raise Unavailable(
                f"the answer of the OSV service for `{package}` has another form than OSV's",
                hint="check its address with `--service`",
            )
        records += page.get("vulns", [])
        token = page.get("next_page_token") or ""
        if not isinstance(token, str) or not token:
            return records
    raise Unavailable(f"the OSV service sent more than {_MAX_PAGES} pages for `{package}`")
