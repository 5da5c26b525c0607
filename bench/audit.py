"""Auditing: 2,700 advisories imported, three locks of 500 pins audited, as whole commands on generated data."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from bench.model import Figure, median

_RECORDS = 2_700  # the PyPA database had 2,661 in October 2024
_PACKAGES = 700
_PINS = 500
_HASHES = 20
_ROUNDS = 5


def figures() -> Iterator[Figure]:
    """Import from a folder of YAML and from a zip of JSON, then the audit of three variants, offline."""
    nexus = str(Path(sys.executable).with_name("nexus"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _records(root / "database", root / "database.zip")
        _registry(root / "registry")
        snapshot = root / "registry" / "advisories"
        for kind, source in (("a folder of YAML", root / "database"), ("a zip of JSON", root / "database.zip")):
            seconds = _runs([nexus, "advisories", "import", str(source), "--to", str(snapshot)], expected=0)
            yield _figure(f"{_RECORDS:,} advisories imported from {kind}", seconds, aim_s=3)
        command = [nexus, "audit", "--root", str(root / "registry"), "-o"]
        yield _figure(f"audit of 3 × {_PINS} pins, offline", _runs([*command, "json"], expected=1), aim_s=1)
        yield _figure(f"the same as CycloneDX with VEX, {3 * _PINS} pins", _runs([*command, "cyclonedx"], expected=1))


def _figure(what: str, seconds: list[float], aim_s: float | None = None) -> Figure:
    reached = median(seconds)
    return Figure(
        what=what,
        aim="stated" if aim_s is None else f"≤ {aim_s:g} s",
        reached=f"{reached:.2f} s",
        met=None if aim_s is None else reached <= aim_s,
        how=f"the whole command, {_ROUNDS} runs after a warm-up, median (longest {max(seconds):.2f} s)",
    )


def _runs(command: list[str], expected: int) -> list[float]:
    taken = []
    for _ in range(_ROUNDS + 1):
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=False)
        taken.append(time.perf_counter() - started)
        if done.returncode != expected:
            raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.decode()[-300:]}")
    return taken[1:]


def _records(folder: Path, archive: Path) -> None:
    """Records of the size of the public ones: a paragraph, a range, forty listed versions, eight references."""
    import msgspec
    import yaml

    folder.mkdir()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(_RECORDS):
            versions = [f"{major}.{minor}" for major in range(1, 5) for minor in range(10)]
            record = {
                "id": f"PYSEC-2026-{number}",
                "modified": "2026-11-01T00:00:00Z",
                "aliases": [f"CVE-2026-{number}"],
                "details": "A crafted request makes the parser read beyond its input. " * 10,
                "affected": [
                    {
                        "package": {"ecosystem": "PyPI", "name": f"package-{number % _PACKAGES}"},
                        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.0"}]}],
                        "versions": versions,
                    }
                ],
                "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
                "references": [{"type": "WEB", "url": f"https://example.org/{number}/{part}"} for part in range(8)],
            }
            (folder / f"{record['id']}.yaml").write_text(yaml.dump(record, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
            packed.writestr(f"{record['id']}.json", msgspec.json.encode(record))


def _registry(root: Path) -> None:
    """Three locks; one pin in ten is below the fix, every pin has hashes as real locks do."""
    root.mkdir()
    for offset, variant in enumerate(("ecosystem", "candidate", "product")):
        lines = []
        for number in range(_PINS):
            version = "4.2" if number % 10 == 0 else f"5.{offset}"
            lines.append(f"package-{number}=={version}")
            lines += [f"    --hash=sha256:{number * _HASHES + part:064x}" for part in range(_HASHES)]
        text = " \\\n".join(lines).replace(" \\\npackage-", "\n    # via example\npackage-")
        (root / f"requirements-{variant}.txt").write_text(text + "\n")
