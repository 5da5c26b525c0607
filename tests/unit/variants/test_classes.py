"""How a package stands to the engine, and where it may stand."""

from __future__ import annotations

import pytest

from nexus.variants import classes, model
from nexus.variants.classes import PackageClass, Standing
from nexus.variants.ports import Metadata, Target

ALL = ("all", "gpu", "docs")
LINUX = (Target(python="3.12", platform="x86_64-manylinux_2_28"),)


def metadata(*asked: str, extras: tuple[str, ...] = ()) -> Metadata:
    return Metadata(name="pkg", version="1.0", requires_dist=asked, extras=extras)


@pytest.mark.parametrize(
    ("given", "kind", "extras"),
    [
        (metadata("numpy"), PackageClass.ECOSYSTEM_ONLY, ()),
        (metadata("vllm>=0.9"), PackageClass.DEPENDENT, ()),
        (metadata('vllm ; extra == "vllm"', extras=("vllm",)), PackageClass.AGNOSTIC, ("vllm",)),
        (metadata('vllm ; extra == "serve-all"', extras=("serve_all",)), PackageClass.AGNOSTIC, ("serve-all",)),
        (metadata('pkg[gpu] ; extra == "all"', 'vLLM ; extra == "gpu"', extras=ALL), PackageClass.AGNOSTIC, ("all", "gpu")),
        (metadata('vllm ; sys_platform == "win32"'), PackageClass.ECOSYSTEM_ONLY, ()),
        (metadata('vllm ; sys_platform == "linux"'), PackageClass.DEPENDENT, ()),
        (metadata('vllm ; python_version >= "3.13"'), PackageClass.ECOSYSTEM_ONLY, ()),
        (metadata("not a requirement (", "numpy"), PackageClass.ECOSYSTEM_ONLY, ()),
        (metadata('pkg[b] ; extra == "a"', 'pkg[a] ; extra == "b"', extras=("a", "b")), PackageClass.ECOSYSTEM_ONLY, ()),
    ],
)  # fmt: skip
def test_the_class_follows_from_the_metadata(given: Metadata, kind: PackageClass, extras: tuple[str, ...]) -> None:
    """Default, extra, extra of an extra, markers of the targets, circles and rubbish each give their class."""
    standing = classes.classify(given, "vllm", LINUX)
    assert (standing.kind, standing.extras) == (kind, extras)


DECLARED = model.read("""\
[project.optional-dependencies]
ecosystem = [
  "only",
  "needs>=1",
  "either[fast,vllm]==2",
]
candidate = [
  "only",
  "needs",
  "either>=2",
]
""")
STANDINGS = (
    Standing(package="only", version="1", kind=PackageClass.ECOSYSTEM_ONLY),
    Standing(package="needs", version="1", kind=PackageClass.DEPENDENT),
    Standing(package="either", version="2", kind=PackageClass.AGNOSTIC, extras=("vllm",)),
)


def test_ecosystem_takes_nothing_that_brings_the_engine() -> None:
    """A dependent package and the engine's extra are errors in ecosystem, at their lines, with what to write."""
    found = classes.check(DECLARED, DECLARED.variants["ecosystem"], STANDINGS)
    assert [(finding.code, finding.line) for finding in found] == [("NX-V12", 4), ("NX-V12", 5)]
    assert "candidate" in found[0].hint
    assert found[1].hint == "write `either[fast]==2`"


def test_candidate_takes_only_what_uses_the_engine() -> None:
    """An ecosystem-only package and a missing extra are errors in candidate."""
    found = classes.check(DECLARED, DECLARED.variants["candidate"], STANDINGS)
    assert [(finding.code, finding.line) for finding in found] == [("NX-V10", 8), ("NX-V11", 10)]
    assert found[1].hint == "write `either[vllm]>=2`"
