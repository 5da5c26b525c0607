"""The commands of a registry as a maintainer uses them: the example, a broken copy of it, a tree of algorithm-nexus 0.2.x."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from nexus.adapters.packageindex import PackageIndex
from nexus.catalog import rulebook
from nexus.kernel.errors import NexusError
from tests.acceptance.registry_copy import EXAMPLE, NEXUS, ROOT, copied, git, nexus


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A copy of the example registry."""
    return copied(tmp_path)


@pytest.fixture
def broken(registry: Path) -> Path:
    """The example registry with one mistake of each kind that fits beside the others."""
    packages = registry / "packages"

    def change(path: str, old: str, new: str) -> None:
        file = packages / path
        text = file.read_text()
        assert old in text, (path, old)
        file.write_text(text.replace(old, new, 1))

    change("idna/nexus.yaml", "owners: [ada-example]", "onwers: [ada-example]")  # unknown field, no owner
    change("packaging/nexus.yaml", "[ada-example]", '["@ada-example"]')  # handle
    change("python-dateutil/nexus.yaml", "name: python-dateutil", "name: python-dateutil\n  name: twice")  # duplicate key
    change("rich/nexus.yaml", "  owners", "\towners")  # tab
    change("jinja2/nexus.yaml", "[ecosystem, candidate, product]", "[ecosystem]")  # variants disagree
    change(
        "jinja2/models/report-writer/model.yaml", "id: nexus-examples/report-writer", "id: nexus-examples/karate-communities"
    )  # twice
    change("networkx/models/karate-communities/model.yaml", "tests/data/karate.edges\n", "tests/data/nothing.edges\n")  # data
    change("networkx/nexus.yaml", "[community_quality]", "[other_quality]")  # instance and binding unregistered
    change("networkx/skills/find-communities/SKILL.md", "name: find-communities\n", "")  # skill without name
    (packages / "idna/models/host-names/usage.md").unlink()
    (packages / "python-dateutil/models/date-reader/model.yaml").write_bytes(b"model: \xff\n")  # not UTF-8
    (packages / "markdown-it-py/models/deep").mkdir(parents=True)
    (packages / "markdown-it-py/models/deep/model.yaml").write_text("a: " + "[" * 5000)
    (packages / "markdown-it-py/models/bomb").mkdir()
    bomb = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 32)]
    (packages / "markdown-it-py/models/bomb/model.yaml").write_text("\n".join(bomb))
    (packages / "markdown-it-py/models/large").mkdir()
    (packages / "markdown-it-py/models/large/model.yaml").write_bytes(b"#" * 10_000_000)
    (packages / "Rich").mkdir()
    (packages / "Rich/nexus.yaml").write_text("package: {name: rich, owners: [ada-example]}\n")  # twin
    (packages / "empty").mkdir()
    (packages / "empty/README.md").write_text("x")  # no manifest
    (packages / "leak").mkdir()
    (packages / "leak/nexus.yaml").symlink_to("/etc/passwd")
    (packages / "-rf\x1b[31m").mkdir()
    (packages / "-rf\x1b[31m/nexus.yaml").write_text("package: {name: '$(touch hacked)'}\n")
    (registry / "waivers.yaml").write_text("waivers:\n  - {code: NX-C043, owner: o, reason: r, expires: 2020-01-01}\n")
    return registry


EXPECTED = {
    "NX-C003", "NX-C004", "NX-C005", "NX-C007", "NX-C010", "NX-C020", "NX-C021", "NX-C030", "NX-C032", "NX-C033", "NX-C034",
    "NX-C037",
    "NX-C041", "NX-C042", "NX-C043", "NX-C047", "NX-C054", "NX-C068", "NX-C090", "NX-Y02", "NX-Y04", "NX-Y05", "NX-Y06", "NX-Y07",
}  # fmt: skip


def test_the_example_registry_is_right() -> None:
    """Not a finding, not even a warning."""
    done = nexus("validate", "catalog", "--strict", cwd=EXAMPLE)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_broken_copy_shows_each_kind_at_once_and_runs_nothing(broken: Path) -> None:
    """All findings come in one run, with places; no name was executed, no link followed, no escape sequence printed."""
    done = nexus("validate", "catalog", "-o", "json", cwd=broken)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert {one["code"] for one in found["findings"]} >= EXPECTED
    assert "root:" not in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert not list(broken.rglob("hacked"))
    assert found["summary"]["errors"] >= 15


@pytest.mark.parametrize("fmt", ["table", "json", "yaml", "csv", "sarif", "github"])
def test_machine_output_is_clean_on_stdout(broken: Path, fmt: str) -> None:
    """Every format can be read by its reader as it is printed; what people are told beside it goes to stderr."""
    done = nexus("validate", "catalog", "-o", fmt, cwd=broken)
    assert done.returncode == 1
    assert "errors" in done.stderr
    read = {
        "table": lambda text: [line for line in text.splitlines() if "error[" in line],
        "json": lambda text: json.loads(text)["findings"],
        "yaml": lambda text: yaml.safe_load(text)["findings"],
        "csv": lambda text: list(csv.DictReader(io.StringIO(text))),
        "sarif": lambda text: json.loads(text)["runs"][0]["results"],
        "github": lambda text: [line for line in text.splitlines() if line.startswith(("::error ", "::warning "))],
    }[fmt]
    assert len(read(done.stdout)) >= 15


def test_one_package_is_checked_alone(broken: Path) -> None:
    """By folder or by name, a right package passes in a registry that is wrong elsewhere, and a wrong one fails."""
    assert nexus("validate", "package", "packages/markdown-it-py", cwd=broken).returncode == 1
    shutil.rmtree(broken / "packages/markdown-it-py/models")
    assert nexus("validate", "package", "packages/markdown-it-py", cwd=broken).returncode == 0
    assert nexus("validate", "package", "markdown-it-py", cwd=broken).returncode == 0
    assert nexus("validate", "package", ".", cwd=broken / "packages/packaging").returncode == 1


def test_a_package_may_use_what_another_registers(registry: Path) -> None:
    """The check of one package looks at the rest of the registry where an experiment asks for it."""
    instance = registry / "packages/idna/benchmark_instances/borrowed/space.yaml"
    instance.parent.mkdir(parents=True)
    shutil.copy(registry / "packages/networkx/benchmark_instances/random-baseline/space.yaml", instance)
    assert nexus("validate", "package", "idna", cwd=registry).returncode == 0


def test_a_package_outside_any_registry_is_checked(registry: Path, tmp_path: Path) -> None:
    """A folder that is not below `packages` is checked as it is."""
    place = shutil.copytree(registry / "packages/rich", tmp_path / "rich")
    assert nexus("validate", "package", str(place)).returncode == 0


def test_wrong_usage_is_exit_2(tmp_path: Path) -> None:
    """No registry, an unknown option and an unknown format are wrong usage, without a traceback."""
    for arguments in (
        ("validate", "catalog", str(tmp_path)),
        ("validate", "catalog", "--nothing"),
        ("validate", "catalog", "-o", "xml"),
        ("validate", "catalog", str(EXAMPLE / "typo")),
        ("validate", "benchmarks", "--packages-root", str(EXAMPLE / "typo")),
        ("validate", "benchmarks", "--packages-root", str(EXAMPLE / "benchmarks")),
    ):
        done = nexus(*arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


def test_strict_and_fail_fast(registry: Path) -> None:
    """Warnings fail with --strict; --fail-fast shows one error of several."""
    (registry / "packages/rich/model.yaml").write_text("x: 1\n")
    assert nexus("validate", "catalog", cwd=registry).returncode == 0
    assert nexus("validate", "catalog", "--strict", cwd=registry).returncode == 1
    for name in ("idna", "rich"):
        (registry / "packages" / name / "nexus.yaml").write_text("package: {}\n")
    done = nexus("validate", "catalog", "--fail-fast", "-o", "json", cwd=registry)
    assert [one["severity"] for one in json.loads(done.stdout)["findings"]] == ["error"]


def test_an_interrupted_command_exits_130(registry: Path) -> None:
    """SIGINT in the middle of a run ends it with 130 and a word, not a traceback."""
    code = (
        "import os, signal, sys\nfrom nexus.catalog import snapshot\nfrom nexus.cli.main import main\n"
        "snapshot.build = lambda *a: os.kill(os.getpid(), signal.SIGINT)\nsys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "validate", "catalog", str(registry)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert signal.getsignal(signal.SIGINT) is not None


# ── trees of algorithm-nexus 0.2.x ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A tree in the layout of 0.2.x: no owners, no tests, extras with Git sources and pins that differ."""
    texts = {
        "pyproject.toml": """[project]
name = "some-registry"
[project.optional-dependencies]
candidate = ["earthkit[vllm]==1.2.10", "vllm==0.24.0", "cellkit[vllm]>=0.20"]
cli = ["typer"]
ecosystem = ["earthkit>=1.2.7", "cellkit", "gridkit==0.8.1"]
product = ["earthkit[vllm]==1.2.10", "vllm==0.24.0"]
[tool.uv]
conflicts = [[{ extra = "ecosystem" }, { extra = "candidate" }, { extra = "product" }]]
[tool.uv.sources]
cellkit = { git = "https://example.org/cellkit.git" }
""",
        "packages/.gitkeep": "",
        "benchmarks/.gitkeep": "",
        "packages/gridkit/nexus.yaml": "package:\n  name: gridkit\n",
        "packages/cellkit/nexus.yaml": "package:\n  name: cellkit\n\n# made with care\n",
        "packages/cellkit/models/cell.llama.32m.v1/model.yaml": """model:
  id: example-research/cell.llama.32m.v1
  vllm:
    enabled: true
    plugins:
      general: cell_model
      io_processors:
        - cell
""",
        "packages/cellkit/models/cell.llama.32m.v1/usage.md": "# Cells\n\nInstall it.\n",
        "packages/earthkit/nexus.yaml": """package:
  name: earthkit
  benchmark_packages:
    - requirement_specifier: "https://github.com/example-org/benchmarks"
      experiments:
        - "remote-baseline"
    - requirement_specifier: "example-benchmark-package"
      experiments: [packaged-baseline]
""",
        "packages/earthkit/models/flood/model.yaml": "model:\n  id: example-nasa/Flood-EO-2.0-300M-TL\n  owner: example-team\n",
        "packages/earthkit/models/flood/benchmark_instances/one/space.yaml": """entitySpace:
  - identifier: dataset
    propertyDomain:
      values: ["floods"]
experiments:
  - actuatorIdentifier: custom_experiments
    experimentIdentifier: remote-baseline
""",
        "packages/earthkit/models/flood/benchmark_instances/one/config.json": "{}",
    }
    for path, text in texts.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_a_tree_of_0_2_validates_unchanged_with_warnings(older: Path) -> None:
    """Exit 0; the missing owners and tests are warnings, and there is nothing else."""
    done = nexus("validate", "catalog", "-o", "json", cwd=older)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["summary"]["errors"] == 0
    assert {one["code"] for one in found["findings"]} == {"NX-C033", "NX-C042", "NX-C043", "NX-C048"}
    for name in ("earthkit", "cellkit", "gridkit"):
        assert nexus("validate", "package", f"packages/{name}", cwd=older).returncode == 0
    assert nexus("validate", "benchmarks", "-o", "json", cwd=older).returncode == 0
    assert nexus("validate", "logical-benchmarks", cwd=older).returncode == 0


def test_owners_become_an_error_where_the_registry_says_so(older: Path) -> None:
    """One line in the project file turns the warning into an error."""
    with (older / "pyproject.toml").open("a") as file:
        file.write('[tool.nexus.rules]\npackage-owner-missing = "error"\n')
    assert nexus("validate", "catalog", cwd=older).returncode == 1


# ── lists and single things ───────────────────────────────────────────────────────────────────────────────────────────


def test_lists_and_supported_models(registry: Path, tmp_path: Path) -> None:
    """Packages, models, owners and the supported models of a variant are listed in every format, also into a file."""
    names = [row["name"] for row in json.loads(nexus("list", "packages", "-o", "json", cwd=registry).stdout)]
    assert names == sorted(path.name for path in (EXAMPLE / "packages").iterdir())
    assert "nexus-examples/report-writer" in nexus("list", "models", "--variant", "product", "-o", "csv", cwd=registry).stdout
    out = tmp_path / "models.csv"
    assert nexus("list", "models", "-o", "csv", "--output-file", str(out), cwd=registry).stdout == ""
    assert len(out.read_text().splitlines()) == 5
    assert "emmy-example" in nexus("list", "owners", cwd=registry).stdout
    assert nexus("list", "models", "--variant", "nothing", cwd=registry).returncode == 2
    assert "community_quality" in nexus("list", "benchmark-experiments", cwd=registry).stdout
    assert nexus("get", "benchmark-requirements", "networkx", cwd=registry).stdout.startswith("./packages/networkx/")


def test_a_model_with_an_error_is_left_out_of_the_supported_list(registry: Path) -> None:
    """It is not listed, and the reason is told beside the list."""
    file = registry / "packages/jinja2/models/report-writer/model.yaml"
    file.write_text(file.read_text().replace("nexus-examples/report-writer", "nexus-examples/report--writer"))
    done = nexus("list", "models", "--variant", "product", "-o", "json", cwd=registry)
    assert json.loads(done.stdout) == []
    assert "left out: nexus-examples/report--writer: NX-C040" in done.stderr


def test_one_package_and_one_model(registry: Path) -> None:
    """By name and by id; a mistyped name gets the closest one."""
    assert json.loads(nexus("get", "package", "networkx", "-o", "json", cwd=registry).stdout)["owners"] == ["emmy-example"]
    assert "ada-example" in nexus("get", "model", "nexus-examples/karate-communities", cwd=registry).stdout
    done = nexus("get", "package", "netwrokx", cwd=registry)
    assert done.returncode == 1
    assert "did you mean `networkx`?" in done.stderr


def test_everything_about_a_package(registry: Path) -> None:
    """Owners, models, variants with pins, and the audit of the package and what it brings."""
    shown = json.loads(nexus("show", "package", "jinja2", "-o", "json", cwd=registry).stdout)
    assert shown["owners"] == ["grace-example"]
    assert {pin["variant"] for pin in shown["pins"]} == {"ecosystem", "candidate", "product"}
    assert {(row["lock"], row["package"]) for row in shown["audit"]} >= {("product", "jinja2"), ("product", "babel")}
    assert "Audit" in nexus("show", "package", "jinja2", cwd=registry).stdout


def test_what_is_waived_is_shown_with_who_answers_for_it(registry: Path) -> None:
    """A waived finding does not count, and everything about a package includes it."""
    (registry / "packages/idna/models/host-names/usage.md").unlink()
    (registry / "waivers.yaml").write_text(
        "waivers:\n  - {code: NX-C043, path: packages/idna, owner: octocat, reason: being written, expires: 2999-01-01}\n"
    )
    shown = json.loads(nexus("show", "package", "idna", "-o", "json", cwd=registry).stdout)
    assert shown["findings"] == []
    assert [(one["code"], one["waiver"]["owner"]) for one in shown["waived"]] == [("NX-C043", "octocat")]
    assert "being written" in nexus("show", "package", "idna", cwd=registry).stdout


def test_the_generated_codeowners_is_fresh(registry: Path) -> None:
    """The example's CODEOWNERS is what its owners say; after a change it is a warning until it is written again."""
    assert nexus("get", "codeowners", cwd=registry).stdout == (EXAMPLE / ".github/CODEOWNERS").read_text()
    file = registry / "packages/rich/nexus.yaml"
    file.write_text(file.read_text().replace("grace-example", "octocat"))
    assert "NX-C081" in nexus("validate", "catalog", cwd=registry).stdout
    assert nexus("get", "codeowners", "--output-file", ".github/CODEOWNERS", cwd=registry).returncode == 0
    assert nexus("validate", "catalog", "--strict", cwd=registry).returncode == 0


# ── a pull request ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pull_request_sees_its_own_findings_only(registry: Path) -> None:
    """Old errors elsewhere stay out; a change's own errors, and those it causes in files it did not touch, are shown."""
    (registry / "packages/rich/nexus.yaml").write_text("package: {name: rich}\n")  # an old error
    git(registry, "init", "-q")
    git(registry, "add", "-A")
    git(registry, "commit", "-qm", "first")
    git(registry, "checkout", "-qb", "feature")
    (registry / "packages/idna/models/host-names/usage.md").write_text("# Names\n\nMore words.\n")
    done = nexus("validate", "catalog", "--since", "main", cwd=registry)
    assert done.returncode == 0, done.stdout
    assert "changed model nexus-examples/host-names" in done.stderr
    shutil.rmtree(registry / "packages/networkx/benchmark_packages")
    manifest = registry / "packages/networkx/nexus.yaml"
    manifest.write_text(manifest.read_text().partition("  benchmark_packages:")[0])
    done = nexus("validate", "catalog", "--since", "main", "-o", "json", cwd=registry)
    assert done.returncode == 1
    files = {one["file"] for one in json.loads(done.stdout)["findings"]}
    assert "packages/networkx/benchmark_instances/random-baseline/space.yaml" in files
    assert "packages/rich/nexus.yaml" not in files
    rows = json.loads(nexus("list", "changes", "--since", "main", "-o", "json", cwd=registry).stdout)
    assert {(row["what"], row["name"], row["change"]) for row in rows} >= {("package", "networkx", "changed")}
    assert nexus("validate", "catalog", "--since", "nothing", cwd=registry).returncode == 2


def test_a_clone_without_the_common_commit_says_so(registry: Path, tmp_path: Path) -> None:
    """In a shallow clone the comparison is with the tip of the other branch, and that is told."""
    git(registry, "init", "-q")
    git(registry, "add", "-A")
    git(registry, "commit", "-qm", "first")
    git(registry, "tag", "before")
    (registry / "packages/rich/notes.txt").write_text("x\n")
    git(registry, "add", "-A")
    git(registry, "commit", "-qm", "second")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{registry}", "shallow")
    git(tmp_path / "shallow", "fetch", "-q", "--depth", "1", "origin", "tag", "before")
    done = nexus("list", "changes", "--since", "before", "-o", "json", cwd=tmp_path / "shallow")
    assert [row["name"] for row in json.loads(done.stdout)] == ["rich"]
    assert "no commit in common with `before`" in done.stderr


def test_logical_benchmarks_are_named_as_they_were_given(registry: Path) -> None:
    """A file elsewhere is told by its own path, in the table and in annotations."""
    (registry / "benchmarks").rename(registry / "drafts")
    file = registry / "drafts/community_detection.yaml"
    file.write_text(file.read_text().replace("  description:", "  descripton:"))
    for arguments in (("--file", "drafts/community_detection.yaml"), ("--benchmarks-root", "drafts")):
        done = nexus("validate", "logical-benchmarks", *arguments, cwd=registry)
        assert done.returncode == 1
        assert done.stdout.startswith("drafts/community_detection.yaml:")
        assert "file=drafts/community_detection.yaml" in nexus(
            "validate", "logical-benchmarks", *arguments, "-o", "github", cwd=registry
        ).stdout  # fmt: skip


def test_nothing_of_a_hostile_registry_reaches_the_terminal(registry: Path) -> None:
    """Names with line breaks and escape sequences are shown without them, by every command, on both outputs."""
    git(registry, "init", "-q")
    git(registry, "add", "-A")
    git(registry, "commit", "-qm", "first")
    evil = registry / "packages/a\x1b[31m\nb"
    (evil / "models/c\x1b]0;x\x07").mkdir(parents=True)
    (evil / "nexus.yaml").write_text('package: {name: "e\\e[2Jf\\ng", owners: ["h\\e[1m"], docs: "i\\e[1m"}\n')
    (evil / "models/c\x1b]0;x\x07/model.yaml").write_text('model: {id: "j\\e[1m/k\\nl", owner: "m\\e[1m"}\n')
    (registry / "packages/rich/x\x1b[1m\ny").write_text("x")
    project = registry / "pyproject.toml"
    project.write_text(project.read_text().replace('    "rich>=13.9",', '    "rich>=13.9",\n    "e\\u001b[2Jf\\ng",'))
    for command in (
        *(["validate", "catalog", "-o", form] for form in ("table", "csv", "github")),
        ["validate", "catalog", "--since", "HEAD"], ["validate", "package", str(evil)], ["validate", "package", "\x1b[1m"],
        ["list", "packages"], ["list", "models", "--variant", "ecosystem"], ["list", "owners"],
        ["list", "changes", "--since", "HEAD"],
        ["get", "package", evil.name], ["get", "model", "j\x1b[1m/k\nl"], ["get", "codeowners"], ["show", "package", evil.name],
        ["remove", "package", evil.name, "--dry-run"], ["list", "changes", "--since", "\x1b[1m"],
    ):  # fmt: skip
        done = nexus(*command, cwd=registry)
        assert "Traceback" not in done.stderr
        told = (done.stdout + done.stderr).replace("\n", "")
        assert told.isprintable(), command


def test_git_that_cannot_answer_is_not_a_revision_that_is_missing(registry: Path, tmp_path: Path) -> None:
    """Without Git, or in a checkout Git does not trust, the reason and the way out are told."""
    done = subprocess.run(
        [*NEXUS, "validate", "catalog", "--since", "HEAD"], cwd=registry, capture_output=True, text=True, check=False,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "`git` is not installed here" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_checkout_of_another_user_is_told_as_such(registry: Path) -> None:
    """The hint is the command that makes Git trust it."""
    git(registry, "init", "-q")
    git(registry, "add", "-A")
    git(registry, "commit", "-qm", "first")
    for path in (registry, registry / ".git"):
        os.chown(path, 12345, 12345)
    done = nexus("validate", "catalog", "--since", "HEAD", cwd=registry)
    assert done.returncode == 2
    assert "belongs to another user" in done.stderr
    assert f"safe.directory {registry}" in done.stderr


def test_the_how_to_works_as_printed(tmp_path: Path) -> None:
    """Every command of `bring a package` runs in the order of the page, and the registry is right after them."""
    try:
        PackageIndex(time_limit_s=10).releases("attrs")
    except NexusError as error:
        pytest.skip(f"needs the configured package index: {error.message}")
    page = (ROOT / "docs/howto/bring-a-package.md").read_text()
    commands = [line for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(commands) > 14
    who = {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "UV_HTTP_RETRIES": "6"}
    for number, pause_s in enumerate((1, 5, 20)):
        place = tmp_path / str(number)
        shutil.copytree(EXAMPLE, place / "examples/registry", ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join([*commands, "nexus validate catalog --strict"])], cwd=place, env=environment,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=600,
        )  # fmt: skip
        if not re.search("NX406|NX-V40|NX-R09", done.stdout + done.stderr):  # else the index, which is not ours, did not answer
            break
        time.sleep(pause_s)
    assert done.returncode == 0, done.stdout + done.stderr
    for printed in re.findall(r"```text\n(.*?)```", page, re.DOTALL):
        assert printed in done.stdout


def test_every_code_of_the_broken_copy_is_explained() -> None:
    """Each code has its section in the generated reference."""
    page = (ROOT / "docs/reference/rules.md").read_text()
    assert all(f"### {code} · " in page for code in rulebook.RULES if code.startswith("NX-C"))
