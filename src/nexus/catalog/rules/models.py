"""Rules about models: identity, owner, usage page, serving, tests."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from nexus.catalog import files as places
from nexus.catalog.rulebook import Problem, rule
from nexus.catalog.schema import WITH_ENGINE
from nexus.catalog.snapshot import Model, Package, Snapshot
from nexus.kernel.documents import Path, shown


def _file(model: Model) -> str:
    return f"{model.path}/{places.MODEL_FILE}"


@rule(
    "NX-C011",
    "model-manifest",
    "A model folder has no model.yaml",
    scope="package",
    hint="add `model.yaml`, or remove the folder; `nexus new model` writes one",
)
def manifest_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Each folder below `models/` declares one model; without `model.yaml` nobody knows which."""
    for model in package.models:
        if model.manifest is None and not any(trouble.path == _file(model) for trouble in snapshot.files.troubles):
            yield Problem(_file(model), f"the model folder {shown(model.folder)} has no `model.yaml`")


@rule(
    "NX-C041",
    "model-twice",
    "A Hugging Face repository is declared twice",
    scope="registry",
    hint="keep one declaration; a model belongs to one package",
)
def model_twice(snapshot: Snapshot) -> Iterator[Problem]:
    """One repository is one model, with one owner and one test. Declared twice, its failures would count against two owners."""
    seen: dict[str, Model] = {}
    for _, model in snapshot.models():
        if model.id:
            first = seen.setdefault(model.id.lower(), model)
            if first is not model:
                yield Problem(_file(model), f"{shown(model.id)} is declared by {shown(first.path)} already", ("model", "id"))


@rule(
    "NX-C042",
    "model-owner-missing",
    "A model has no owner",
    scope="package",
    severity="warning",
    hint="add `owner` to the model, or `owners` to its package",
)
def owner_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Each model has an owner: its own, or by default those of its package. Test failures are notified to them."""
    for model in package.models:
        if model.understood and package.understood and not package.names_owner(model):
            yield Problem(_file(model), f"neither the model {shown(model.shown)} nor its package names an owner", ("model",))


@rule(
    "NX-C043",
    "usage-missing",
    "A model has no usage page",
    scope="package",
    severity="warning",
    hint="add `usage.md` that shows a first inference",
)
def usage_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """People start from `usage.md`: how to install, load and call the model."""
    troubled = {trouble.path for trouble in snapshot.files.troubles}
    for model in package.models:
        if model.usage is None and model.manifest is not None and f"{model.path}/{places.USAGE_FILE}" not in troubled:
            yield Problem(_file(model), f"the model {shown(model.shown)} has no `usage.md`", ("model",))


@rule(
    "NX-C044",
    "usage-empty",
    "A usage page says nothing",
    scope="package",
    severity="warning",
    hint="write how to install, load and call the model, or remove the page",
)
def usage_empty(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """An empty page, or one that is not UTF-8 text, helps nobody and counts as documentation."""
    for model in package.models:
        if model.usage is None:
            continue
        file = f"{model.path}/{places.USAGE_FILE}"
        try:
            text = model.usage.decode("utf-8-sig")
        except UnicodeDecodeError:
            yield Problem(file, "the usage page is not UTF-8 text", hint="save it as UTF-8", line=1)
            continue
        if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
            yield Problem(file, "the usage page holds nothing but headings", line=1)


@rule(
    "NX-C045",
    "vllm-variant",
    "A model declares vLLM in a package that vLLM never meets",
    scope="package",
    hint="remove the `vllm` section, or add the package to `candidate` or `product`",
)
def vllm_variant(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """The ecosystem variant is free of vLLM, so a `vllm` section has a meaning only in packages of the candidate or product
    variant."""
    variants = snapshot.variants_of(package)
    if not variants or set(variants) & set(WITH_ENGINE):
        return
    for model in package.models:
        if model.manifest is not None and model.manifest.vllm is not None:
            message = (
                f"the model declares vLLM, but {shown(package.name)} stands only in {', '.join(f'`{name}`' for name in variants)}"
            )
            yield Problem(_file(model), message, ("model", "vllm"))


@rule(
    "NX-C048",
    "testing-missing",
    "A model has no test specification",
    scope="package",
    severity="warning",
    hint="add `testing` with hardware, commands, scenarios and a time limit",
)
def testing_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Every model is tested on every variant of its package. Without a specification it cannot be, and does not reach the list of
    supported models of a registry that makes this an error. Trees of algorithm-nexus 0.2.x have no such section."""
    for model in package.models:
        if model.manifest is not None and model.manifest.testing is None and model.manifest.id:
            yield Problem(_file(model), f"the model {shown(model.id)} says nothing about its tests", ("model",))


@rule(
    "NX-C049",
    "testing-vllm",
    "A model served by vLLM has no vLLM scenario",
    scope="package",
    severity="warning",
    hint="add a scenario of `kind: vllm` that loads the model with vLLM and checks an inference",
)
def testing_vllm(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Where vLLM is enabled, loading and inference with vLLM are part of the test."""
    for model in package.models:
        if model.manifest is None or not model.manifest.vllm or not model.manifest.testing:
            continue
        scenarios = model.manifest.testing.get("scenarios")
        kinds = [one.get("kind") for one in scenarios if isinstance(one, dict)] if isinstance(scenarios, list) else []
        if "vllm" not in kinds:
            yield Problem(_file(model), "vLLM is enabled, but no scenario tests it", ("model", "testing", "scenarios"))


@rule(
    "NX-C046",
    "testing-inference",
    "A model's tests hold no inference on one input",
    scope="package",
    hint="add a scenario of `kind: inference` with its `input` and what it `checks`",
)
def testing_inference(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """At least one scenario infers on a single input and checks the output."""
    for model in package.models:
        scenarios = model.manifest.testing.get("scenarios") if model.manifest is not None and model.manifest.testing else None
        if (
            isinstance(scenarios, list)
            and scenarios
            and not any(isinstance(one, dict) and one.get("kind") == "inference" for one in scenarios)
        ):
            yield Problem(_file(model), "no scenario infers on a single input", ("model", "testing", "scenarios"))


@rule(
    "NX-C047",
    "testing-data",
    "Test data is not shipped with the test",
    scope="package",
    hint="put the file beside `model.yaml`, or correct its path",
)
def testing_data(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Data and inputs of a test come with it, in the model's folder: nothing relies on files that happen to be on a machine."""
    for model in package.models:
        testing = model.manifest.testing if model.manifest is not None else None
        if not testing:
            continue
        data, scenarios = testing.get("data"), testing.get("scenarios")
        named: list[tuple[Path, Any]] = [
            (("model", "testing", "data", n), one) for n, one in enumerate(data if isinstance(data, list) else [])
        ]
        named += [
            (("model", "testing", "scenarios", n, "input"), one.get("input"))
            for n, one in enumerate(scenarios if isinstance(scenarios, list) else [])
            if isinstance(one, dict)
        ]
        for at, path in named:
            if isinstance(path, str) and ".." not in path and not _ships(package, model, path):
                yield Problem(_file(model), f"the test data {shown(path)} is not in {shown(model.path)}", at)


def _ships(package: Package, model: Model, path: str) -> bool:
    """Whether there is a file at this path of the model's folder, or a folder with files."""
    inside = posixpath.normpath(f"models/{model.folder}/{path}")
    return inside in package.paths or any(one.startswith(f"{inside}/") for one in package.paths)
