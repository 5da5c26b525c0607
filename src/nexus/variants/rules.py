"""The codes of findings about variants, entered in the book of rules so that severities and the reference know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nexus.catalog import rulebook
from nexus.kernel.documents import Finding

_RULES = (
    (
        "NX-V01",
        "declaration-unreadable",
        "The registry's pyproject.toml is not valid TOML",
        "Variants are declared in it; nothing can be resolved before it can be read.",
        "correct the TOML at this place",
    ),
    (
        "NX-V02",
        "variants-missing",
        "No variant is declared",
        "Variants are the extras `ecosystem`, `candidate` and `product` of the registry's own project.",
        "add them to `[project.optional-dependencies]`",
    ),
    (
        "NX-V03",
        "requirement-invalid",
        "A requirement cannot be used",
        "Requirements are PEP 508 texts; sources are an index, or Git over https or ssh.",
        "write `name>=1.2`, or a source in `[tool.uv.sources]`",
    ),
    (
        "NX-V04",
        "conflicts-undeclared",
        "The variants are not declared as excluding one another",
        "`uv lock` resolves all extras together unless `[tool.uv] conflicts` names them.",
        "name all variants in one group of `conflicts`",
    ),
    (
        "NX-V05",
        "variant-setting-invalid",
        "A setting in `[tool.nexus]` cannot be used",
        "A setting that is ignored would change what is checked without a word.",
        "see the reference of settings",
    ),
    (
        "NX-V10",
        "ecosystem-only-with-engine",
        "A package that never uses the engine stands in candidate or product",
        "Those variants hold what runs on the engine; everything else belongs in ecosystem.",
        "remove it from this variant",
    ),
    (
        "NX-V11",
        "engine-extra-missing",
        "A package stands in candidate or product without the extra that brings the engine",
        "An agnostic package uses the engine only when its extra is asked for.",
        "ask for the extra",
    ),
    (
        "NX-V12",
        "engine-in-ecosystem",
        "A requirement brings the engine into ecosystem",
        "The ecosystem variant must install without the engine.",
        "leave out the extra, or move the package",
    ),
    (
        "NX-V13",
        "class-unknown",
        "The class of a package could not be derived",
        "Its metadata could not be read from the index or the Git source without building it; that is never a pass.",
        "register a release with a wheel, or a Git source that declares its dependencies in `[project]`",
    ),
    (
        "NX-V20",
        "pins-unreadable",
        "A line of a requirements file is not a pinned requirement",
        "Every line pins one package; index addresses belong to the machine's configuration.",
        "resolve again",
    ),
    (
        "NX-V21",
        "pins-missing",
        "A variant has no committed pins",
        "Releases, audits and environments are made from committed pins.",
        "resolve it",
    ),
    (
        "NX-V22",
        "pins-stale",
        "The committed pins are not what the declaration gives",
        "Resolving with the committed versions as preferences (or exporting `uv.lock`) gives others: one was changed alone.",
        "resolve again and commit",
    ),
    (
        "NX-V23",
        "lock-stale",
        "`uv.lock` does not answer the declaration",
        "The pins are exported from the lock.",
        "resolve again and commit",
    ),
    (
        "NX-V24",
        "not-installable",
        "The pins do not install on a target",
        "A dry run installs wheels alone, with hashes, for each Python and platform of `[tool.nexus]`.",
        "pin versions that have wheels there",
    ),
    (
        "NX-V25",
        "unsatisfiable",
        "A variant does not resolve",
        "Some of its requirements exclude one another.",
        "see `nexus variants explain`",
    ),
    (
        "NX-V26",
        "build-needed",
        "A pin installs only by being built",
        "It has no wheel for a target; a build runs the package's code on the machine that installs it.",
        "pin a version with wheels, or say `build = true` in `[tool.nexus]`",
    ),
    (
        "NX-V27",
        "archive-passed-over",
        "A newer release is passed over because it has only source archives",
        "Building one runs the package's code, which a registry has to allow; until it does, an older release is taken.",
        "allow the build with `--build`, or `build = true` in `[tool.nexus]`",
    ),
    (
        "NX-V30",
        "engine-in-ecosystem-graph",
        "The ecosystem variant contains the engine",
        "A dependency brings it, however far away.",
        "follow the chain",
    ),
    (
        "NX-V31",
        "candidate-behind",
        "The candidate is not on the engine's latest stable release",
        "The candidate variant tries what product will become.",
        "upgrade the engine",
    ),
    (
        "NX-V32",
        "product-off-pin",
        "The product variant is not on its pin",
        "Product stands on one release of the engine.",
        "pin it and resolve again",
    ),
    (
        "NX-V33",
        "engine-missing",
        "Candidate or product does not contain the engine",
        "Both are defined by it.",
        "add it to the extra",
    ),
    (
        "NX-V40",
        "variants-unchecked",
        "Something could not be checked",
        "An index that does not answer, or a missing tool, is never a pass.",
        "repeat when it answers",
    ),
)
_WARNINGS = ("NX-V04", "NX-V26", "NX-V27")

for _code, _name, _title, _text, _hint in _RULES:
    _severity = "warning" if _code in _WARNINGS else "error"
    rulebook.enter(_code, _name, _title, text=_text, hint=_hint, scope="variants", severity=_severity)


def graded(findings: Iterable[Finding], severities: Mapping[str, str]) -> list[Finding]:
    """The findings once each, with the severities a registry gives; those it turns off are left out."""
    return [graded for one in dict.fromkeys(findings) if (graded := rulebook.graded(one, severities)) is not None]
