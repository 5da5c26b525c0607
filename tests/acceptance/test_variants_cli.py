"""``nexus variants`` as a person uses it, on copies of the example registry.

What needs packages runs against the configured index and is skipped, with the reason, when it does not answer.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus.adapters.packageindex import PackageIndex
from nexus.kernel.errors import NexusError

NEXUS = Path(sys.executable).with_name("nexus")
ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 600
_OUTAGE = ("NX406", "NX-V40")
FILES = [f"requirements-{name}.txt" for name in ("candidate", "ecosystem", "product")]


def nexus(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NEXUS), "variants", *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def asked(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same, repeated when the index, which is not ours, leaves it without an answer."""
    return insisting(lambda: nexus(*arguments, cwd=cwd, UV_HTTP_RETRIES="6"))


def insisting(call: Callable[[], subprocess.CompletedProcess[str]]) -> subprocess.CompletedProcess[str]:
    """The first answer that tells of no outage of the index; the fourth, whatever it tells."""
    for pause_s in (1, 5, 20):
        answer = call()
        if not any(code in answer.stdout + answer.stderr for code in _OUTAGE):
            return answer
        time.sleep(pause_s)
    return call()


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A committed copy of the example registry."""
    root = tmp_path / "my-registry"
    shutil.copytree(ROOT / "examples/registry", root)
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "Start from the example")
    return root


@pytest.fixture(scope="session")
def index() -> None:
    try:
        PackageIndex(time_limit_s=10).releases("idna")
    except NexusError as error:
        pytest.skip(f"needs the configured package index: {error.message}")


def edit(root: Path, before: str, after: str) -> None:
    text = (root / "pyproject.toml").read_text()
    assert before in text
    (root / "pyproject.toml").write_text(text.replace(before, after))


def pinned(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text() for name in FILES}


# ── without an index ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_why_names_every_chain(registry: Path) -> None:
    """mdurl comes in through markdown-it-py, alone and below rich; an absent package exits 1."""
    rows = json.loads(nexus("why", "mdurl", "-o", "json", cwd=registry).stdout)
    assert [row["chain"] for row in rows] == ["markdown-it-py → mdurl", "rich → markdown-it-py → mdurl"]
    absent = nexus("why", "numpy", "ecosystem", cwd=registry)
    assert (absent.returncode, absent.stdout) == (1, "no variant contains `numpy`\n")


def test_the_matrix_has_a_column_a_variant(registry: Path) -> None:
    """The engine is absent from ecosystem, latest in candidate, pinned in product."""
    rows = list(csv.DictReader(io.StringIO(nexus("matrix", str(registry), "-o", "csv", cwd=registry.parent).stdout)))
    babel = next(row for row in rows if row["package"] == "babel")
    assert (babel["ecosystem"], babel["product"]) == ("", "2.16.0")
    assert babel["candidate"] > babel["product"]


def test_a_difference_names_its_cause(registry: Path) -> None:
    """Between a revision and the folder: what changed, and the edit that caused it."""
    edit(registry, '"babel==2.16.0"', '"babel==2.17.0"')
    product = registry / "requirements-product.txt"
    product.write_text(product.read_text().replace("babel==2.16.0", "babel==2.17.0"))
    git(registry, "commit", "-qam", "Upgrade")
    rows = json.loads(nexus("diff", "HEAD~1", "HEAD", "-o", "json", cwd=registry).stdout)
    assert rows == [
        {"variant": "product", "package": "babel", "change": "up", "before": "2.16.0", "after": "2.17.0",
         "because_of": ["`babel==2.16.0` became `babel==2.17.0`"]}
    ]  # fmt: skip
    assert nexus("diff", cwd=registry).stdout == "the pins are the same\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["diff", "no-such-revision"], 2, "NX403"),
        (["diff", "--output=/tmp/x"], 2, ""),
        (["resolve", "prodct"], 2, "declared: `ecosystem`, `candidate`, `product`"),
        (["check", "--root", "nowhere"], 2, "NX401"),
        (["matrix", "a", "b"], 2, "NX405"),
        (["explain", "ecosystem", "-o", "svg"], 2, ""),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_with_a_word(registry: Path, arguments: list[str], code: int, words: str) -> None:
    """Unknown revisions, variants and folders exit 2 with what to do, and never with a traceback."""
    answer = nexus(*arguments, cwd=registry)
    assert answer.returncode == code, answer.stderr
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[project\n", "pyproject.toml:1:"),
        ('[project]\n[project.optional-dependencies]\necosystem = ["--index-url=https://evil.example"]\n', "pyproject.toml:3:14"),
        ('[project]\n[project.optional-dependencies]\necosystem = ["x @ file:///etc/passwd"]\n', "pyproject.toml:3:14"),
        ('[project]\n[project.optional-dependencies]\necosystem = ["$(touch pwned)", "`id`"]\n', "pyproject.toml:3:14"),
    ],
)  # fmt: skip
def test_a_broken_or_hostile_declaration_is_refused_with_its_place(registry: Path, text: str, place: str) -> None:
    """Nothing is asked, nothing is written, nothing runs."""
    before = pinned(registry)
    (registry / "pyproject.toml").write_text(text)
    answer = nexus("resolve", cwd=registry)
    assert answer.returncode == 2
    assert place in answer.stderr
    assert "Traceback" not in answer.stderr
    assert pinned(registry) == before
    assert not (registry / "pwned").exists()


def test_pins_out_of_the_tree_are_not_read(registry: Path) -> None:
    """A link that leaves the registry is refused."""
    (registry / "requirements-product.txt").unlink()
    (registry / "requirements-product.txt").symlink_to("/etc/passwd")
    answer = nexus("matrix", cwd=registry)
    assert answer.returncode == 2
    assert "link" in answer.stderr


def test_without_an_index_nothing_passes_and_nothing_is_written(registry: Path, tmp_path: Path) -> None:
    """Every command that needs the index fails loudly: `could not check` is an error."""
    before = pinned(registry)
    nowhere = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_HTTP_RETRIES": "0",
               "XDG_CACHE_HOME": str(tmp_path / "own")}  # fmt: skip
    checked = nexus("check", "ecosystem", "-o", "json", cwd=registry, **nowhere)
    assert checked.returncode == 1
    assert {"NX-V40", "NX-V13"} >= {row["code"] for row in json.loads(checked.stdout)} != set()
    for command in ("resolve", "explain"):
        answer = nexus(command, cwd=registry, **nowhere)
        assert answer.returncode == 1
        assert "error[NX406]" in answer.stderr
    assert pinned(registry) == before


# ── with the index ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("index")
def test_the_example_is_fresh_installable_and_well_placed(registry: Path) -> None:
    """The committed pins of the example pass every check, and resolving again changes nothing."""
    checked = asked("check", cwd=registry)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr
    again = asked("resolve", cwd=registry)
    assert again.returncode == 0
    assert "nothing changes" in again.stderr


@pytest.mark.usefixtures("index")
def test_resolving_from_nothing_writes_the_same_pins(registry: Path) -> None:
    """With `exclude-newer` the pins do not depend on the day: three files, hashes on every pin, no address of an index."""
    before = pinned(registry)
    for name in FILES:
        (registry / name).unlink()
    assert asked("resolve", cwd=registry).returncode == 0
    assert pinned(registry) == before
    for text in before.values():
        assert "://" not in text
        assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z])", text)[1:])


@pytest.mark.usefixtures("index")
def test_misplaced_packages_and_engines_are_found_by_real_metadata(registry: Path) -> None:
    """The engine's extra in ecosystem, a package without it in product, an engine behind: each with its line."""
    edit(registry, '    "jinja2>=3.1",', '    "jinja2[i18n]>=3.1",')
    edit(registry, '    "babel",\n    "jinja2[i18n]>=3.1",', '    "babel==2.17.0",\n    "jinja2>=3.1",\n    "idna",')
    assert asked("resolve", cwd=registry).returncode == 0
    rows = json.loads(asked("check", "-o", "json", cwd=registry).stdout)
    lines = (registry / "pyproject.toml").read_text().splitlines()
    found = {row["code"]: lines[row["line"] - 1].strip() for row in rows}
    assert found == {
        "NX-V12": '"jinja2[i18n]>=3.1",', "NX-V30": '"jinja2[i18n]>=3.1",', "NX-V11": '"jinja2>=3.1",', "NX-V10": '"idna",',
        "NX-V31": '"babel==2.17.0",',
    }  # fmt: skip


@pytest.mark.usefixtures("index")
def test_a_planted_conflict_is_explained_with_a_solution_that_works(registry: Path) -> None:
    """As in the how-to: two owners, one contested package, the guilty commit, and an edit that mends it."""
    edit(registry, '"markdown-it-py>=3"', '"markdown-it-py>=1,<2"')
    git(registry, "commit", "-qam", "Hold markdown-it-py back")
    before = pinned(registry)
    assert asked("resolve", cwd=registry).returncode == 1
    assert pinned(registry) == before
    told = asked("explain", "ecosystem", "--svg", "conflict.svg", "-o", "json", cwd=registry)
    assert told.returncode == 1
    (conflict,) = json.loads(told.stdout)
    assert conflict["contested"] == "markdown-it-py"
    assert {side["package"]: side["owners"] for side in conflict["sides"]} == {
        "markdown-it-py": ["linus-example"],
        "rich": ["grace-example"],
    }
    assert conflict["sides"][1]["chain"] == [{"package": "rich>=13.9.0", "needs": "markdown-it-py>=2.2.0"}]
    outcomes = {(one["kind"], one["outcome"]) for one in conflict["solutions"]}
    assert {("relax", "works"), ("relax", "fails"), ("version", "works"), ("leave-out", "works"), ("move", "refused")} <= outcomes
    assert conflict["suspect"]["commit"]["subject"] == "Hold markdown-it-py back"
    assert "markdown-it-py" in " ".join(node.text or "" for node in ET.parse(registry / "conflict.svg").iter())
    best = conflict["solutions"][0]["edits"][0]
    edit(registry, f'"{best["before"]}"', f'"{best["after"]}"')
    assert asked("resolve", cwd=registry).returncode == 0
    assert asked("explain", "ecosystem", cwd=registry).returncode == 0


@pytest.mark.usefixtures("index")
def test_upgrading_one_package_leaves_the_others(registry: Path) -> None:
    """Pins are preferences; the named package alone moves."""
    ecosystem = registry / "requirements-ecosystem.txt"
    for name, old in (("idna", "3.7"), ("packaging", "24.0")):
        ecosystem.write_text(re.sub(rf"(?m)^{name}==\S+ \\\n(    --hash=\S+( \\)?\n)+", f"{name}=={old}\n", ecosystem.read_text()))
    assert asked("resolve", "ecosystem", "--upgrade", "idna", cwd=registry).returncode == 0
    text = ecosystem.read_text()
    assert "packaging==24.0" in text
    assert "idna==3.7 " not in text


@pytest.mark.usefixtures("index")
def test_the_how_to_works_as_printed(tmp_path: Path) -> None:
    """Every command of the page runs; those that should fail do, the others succeed."""
    page = (ROOT / "docs/howto/solve-a-conflict.md").read_text()
    commands = [line.strip() for line in page.splitlines() if re.match(r"    (cp|cd|git|sed|nexus) ", line)]
    assert len(commands) > 12
    expected = {"nexus variants resolve": [1, 0], "nexus variants explain ecosystem --svg conflict.svg": [1]}
    script = ["export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org"]
    for command in commands:
        wanted = expected.get(command, [])
        code = wanted.pop(0) if wanted else 0
        script.append(f'{command}; code=$?; test $code = {code} || {{ echo "$code: {command.replace("`", "")}"; exit 1; }}')

    def follow() -> subprocess.CompletedProcess[str]:
        place = Path(tempfile.mkdtemp(dir=tmp_path))
        shutil.copytree(ROOT / "examples/registry", place / "examples/registry")
        (place / "run.sh").write_text("\n".join(script) + "\n")
        return subprocess.run(
            ["bash", "run.sh"], cwd=place, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
            env={**os.environ, "PATH": f"{NEXUS.parent}:{os.environ['PATH']}", "UV_HTTP_RETRIES": "6"},
        )  # fmt: skip

    answer = insisting(follow)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    assert "`rich>=13.9` became `rich>=13.9,<14`" in answer.stdout
    assert "refused  move `rich`" in answer.stdout
