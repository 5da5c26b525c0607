"""The installed ``nexus`` command, as a person uses it, against a real service with real algorithms."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus.sdk import Nexus

NEXUS = Path(sys.executable).with_name("nexus")
PATIENCE_S = 180

SOURCE = """
import sys, time
from dataclasses import dataclass
from nexus.sdk import Context, TransientError, algorithm

@dataclass
class Number:
    n: int = 2

@algorithm
def cube(payload: Number, ctx: Context) -> dict:
    print(f"out {payload.n}", flush=True)
    ctx.log.info("cubing %s", payload.n)
    return {"cube": payload.n ** 3, "attempt": ctx.attempt}

@algorithm
def family(payload: Number, ctx: Context) -> dict:
    children = [ctx.spawn("cube", {"n": n}, tag="child") for n in range(payload.n)]
    return {"sum": sum(child["cube"] for child in ctx.gather(children))}

@algorithm
def broken(payload: dict) -> None:
    raise ValueError("no solution for this instance")

@algorithm
def flaky(payload: dict, ctx: Context) -> dict:
    if ctx.attempt == 1:
        print("first", flush=True)
        raise TransientError("not yet")
    print("second", flush=True)
    return {"attempt": ctx.attempt}

@algorithm
def slow(payload: dict) -> None:
    print("working", flush=True)
    time.sleep(600)

@algorithm
def raw(payload: dict) -> bytes:
    return bytes(range(256))

globals()[sys.argv[1]].main()
"""


class Shell:
    """Runs ``nexus`` commands against one service."""

    def __init__(self, server: str, data_dir: Path, home: Path) -> None:
        self.server = server
        self.data_dir = data_dir
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("NEXUS__")},
            "NEXUS__SERVER": server,
            "HOME": str(home),
        }

    def run(self, *arguments: str, code: int = 0, stdin: str | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(NEXUS), *arguments],
            env={**self.environment, **extra},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, **more: Any) -> Any:
        return json.loads(self.run(*arguments, "-o", "json", **more).stdout)

    def submit(self, *arguments: str) -> str:
        return self.run("runs", "submit", *arguments).stdout.strip()


def _manifest(name: str, script: Path, **sections: Any) -> str:
    document = {
        "apiVersion": "science.sneaksanddata.com/v1",
        "kind": "NexusAlgorithmTemplate",
        "metadata": {"name": name},
        "spec": {
            "container": {"image": name, "registry": "none", "versionTag": "v1", "serviceAccountName": "none"},
            "command": sys.executable,
            "args": [str(script), name, "--sas-uri=%s", "--request-id=%s"],
            "computeResources": {"cpuLimit": "500m", "memoryLimit": "256Mi"},
            **sections,
        },
    }
    return json.dumps(document)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("cli")
    script = folder / "algorithms.py"
    script.write_text(SOURCE)
    manifests = folder / "manifests"
    manifests.mkdir()
    for name in ("cube", "family", "broken", "slow", "raw"):
        (manifests / f"{name}.yaml").write_text(_manifest(name, script))
    retried = {"errorHandlingBehaviour": {"transientExitCodes": [1]}}
    (folder / "flaky.yaml").write_text(_manifest("flaky", script, **retried))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEXUS__")}
    with (folder / "service.log").open("wb") as log:
        service = subprocess.Popen(
            [str(NEXUS), "serve", "--port", "0", "--data-dir", str(folder / "data"), "--algorithms", str(manifests)],
            env={**environment, "NEXUS__RETRY_PAUSE": "50ms"}, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        assert service.stdout is not None
        line = service.stdout.readline().decode()
        assert line.startswith("nexus ready on "), line + (folder / "service.log").read_text()
        yield Shell(line.split()[3].rstrip(","), folder / "data", folder)
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE_S) == 0
    finally:
        if service.poll() is None:
            service.kill()
        service.communicate()


def test_a_run_from_submit_to_result(shell: Shell) -> None:
    """Submit and wait in one command; the result is what the algorithm returned."""
    done = shell.run("runs", "submit", "cube", "--set", "n=3", "--tag", "first", "--wait", "-o", "json")
    outcome = json.loads(done.stdout)
    assert (outcome["algorithm"], outcome["status"]) == ("cube", "COMPLETED")
    assert f"accepted cube/{outcome['requestId']}" in done.stderr
    result = shell.run("runs", "result", "cube", outcome["requestId"])
    assert json.loads(result.stdout) == {"cube": 27, "attempt": 1}


def test_a_run_is_named_in_several_ways(shell: Shell) -> None:
    """`ALGORITHM/ID`, `ALGORITHM ID`, and a unique end of the id name the same run; what fits none or many is said."""
    ref = shell.submit("cube")
    algorithm, run_id = ref.split("/")
    shell.run("runs", "wait", ref)
    for name in ([ref], [algorithm, run_id], [algorithm, run_id[-8:]], [f"{algorithm}/{run_id[-8:]}"]):
        assert shell.json("runs", "show", *name)["requestId"] == run_id
    shell.submit("cube")
    assert "fits" in shell.run("runs", "show", "cube", run_id[:4], code=2).stderr
    assert "too short" in shell.run("runs", "show", "cube", run_id[:3], code=2).stderr
    assert "error[NX202]" in shell.run("runs", "show", "cube", "nothing-like-this", code=1).stderr
    assert "does not name a run" in shell.run("runs", "show", "cube", code=2).stderr


def test_payloads_come_from_files_stdin_and_pairs(shell: Shell, tmp_path: Path) -> None:
    """Each way gives the same run of the algorithm; what is no object is refused before it is sent."""
    (tmp_path / "p.json").write_text('{"n": 4}')
    from_file = shell.submit("cube", "--payload", str(tmp_path / "p.json"))
    from_stdin = shell.run("runs", "submit", "cube", "--payload", "-", stdin='{"n": 4}').stdout.strip()
    changed = shell.submit("cube", "--payload", str(tmp_path / "p.json"), "--set", "n=5")
    cubes = []
    for ref in (from_file, from_stdin, changed):
        shell.run("runs", "wait", ref)
        cubes.append(json.loads(shell.run("runs", "result", ref).stdout)["cube"])
    assert cubes == [64, 64, 125]
    assert "must be a JSON object" in shell.run("runs", "submit", "cube", "--payload", "-", stdin="[1]", code=2).stderr


def test_failures_have_a_cause_and_an_exit_code(shell: Shell) -> None:
    """A failed run makes `--wait` exit with 1, and says why; its result is refused with the same words."""
    done = shell.run("runs", "submit", "broken", "--wait", "-o", "json", code=1)
    outcome = json.loads(done.stdout)
    assert (outcome["status"], outcome["runErrorMessage"]) == ("FAILED", "ValueError: no solution for this instance")
    view = shell.json("runs", "show", "broken", outcome["requestId"])
    assert "Traceback" in view["failureDetails"]
    assert "no solution" in shell.run("runs", "result", "broken", outcome["requestId"], code=1).stderr


def test_wrong_shapes_name_the_field(shell: Shell) -> None:
    """A payload that does not fit the algorithm's type is FAILED with the field's name."""
    done = shell.run("runs", "submit", "cube", "--set", "n=three", "--wait", "-o", "json", code=1)
    assert "`$.n`" in json.loads(done.stdout)["runErrorMessage"]


def test_a_transient_error_is_tried_again(shell: Shell) -> None:
    """The second attempt completes; logs of each attempt can be read, following goes over both."""
    applied = shell.json("apply", "-f", str(shell.data_dir.parent / "flaky.yaml"))
    assert [(each["name"], each["change"]) for each in applied] == [("flaky", "created")]
    ref = shell.submit("flaky")
    followed = shell.run("runs", "logs", ref, "-f")
    assert followed.stdout.endswith("second\n")
    assert json.loads(shell.run("runs", "result", ref).stdout) == {"attempt": 2}
    shown = shell.run("runs", "show", ref)
    first, second = [line.split() for line in shown.stdout.splitlines() if line[:1] in ("1", "2")]
    assert (first[0], " ".join(first[-12:])) == ("1", "1 kept it exited with code 1, which its template calls transient")
    assert (second[0], second[-5:]) == ("2", ["it", "exited", "with", "code", "0"])
    assert "--attempt N" in shown.stderr
    ends = shell.json("runs", "show", ref)["attempts"]
    assert [(each["attempt"], each["state"], each["exitCode"]) for each in ends] == [(1, "ended", 1), (2, "ended", 0)]
    assert ends[0]["startedAt"] < ends[0]["endedAt"] <= ends[1]["startedAt"] < ends[1]["endedAt"]
    assert shell.run("runs", "logs", ref, "--attempt", "1", "--stream", "stdout").stdout == "first\n"
    assert "not yet" in shell.run("runs", "logs", ref, "--attempt", "1", "--stream", "stderr").stdout


def test_logs_keep_the_streams_apart(shell: Shell) -> None:
    """What the algorithm printed is on stdout, what it logged on stderr."""
    ref = shell.submit("cube", "--set", "n=7")
    shell.run("runs", "logs", ref, "-f")  # to its last word, which may come after the report
    done = shell.run("runs", "logs", ref)
    assert done.stdout == "out 7\n"
    assert "cubing 7" in done.stderr
    last = shell.run("runs", "logs", ref, "--tail", "1", "--stream", "stderr").stdout
    assert last.count("\n") == 1
    assert done.stderr.endswith(last)


def test_a_tree_is_shown_from_its_root(shell: Shell) -> None:
    """A parent combines its children; the tree of any member shows all."""
    done = shell.run("runs", "submit", "family", "--set", "n=4", "--wait", "-o", "json")
    root = json.loads(done.stdout)["requestId"]
    assert json.loads(shell.run("runs", "result", "family", root).stdout) == {"sum": 0 + 1 + 8 + 27}
    runs = shell.json("runs", "tree", "family", root)
    assert [run["algorithm"] for run in runs] == ["family", "cube", "cube", "cube", "cube"]
    assert all(run["parent"] == {"algorithmName": "family", "requestId": root} for run in runs[1:])
    drawn = shell.run("runs", "tree", "cube", runs[2]["requestId"], PYTHONIOENCODING="utf-8").stdout.splitlines()
    assert drawn[0].startswith(f"COMPLETED  family/{root}")
    assert [line[:4] for line in drawn[1:]] == ["├── "] * 3 + ["└── "]
    assert sum(line.endswith("  <") for line in drawn) == 1
    children = shell.json("runs", "list", "--parent", root, "--tag", "child")
    assert {run["requestId"] for run in children} == {run["requestId"] for run in runs[1:]}
    assert len(shell.json("runs", "list", "--root", f"family/{root}")) == 5
    assert f"`{root[:9]}` is not a whole id" in shell.run("runs", "list", "--root", root[:9], code=2).stderr


def test_lists_are_printed_in_every_form(shell: Shell) -> None:
    """Table, JSON, YAML and CSV carry the same runs, newest first; filters and limits hold."""
    refs = [shell.submit("cube", "--tag", "forms", "--dry-run") for _ in range(3)]
    ids = [ref.split("/")[1] for ref in reversed(refs)]
    assert [run["requestId"] for run in shell.json("runs", "list", "--tag", "forms")] == ids
    table = shell.run("runs", "list", "--tag", "forms").stdout.splitlines()
    assert table[0].split() == ["ID", "ALGORITHM", "STAGE", "TAG", "RECEIVED", "TOOK", "ATTEMPT"]
    assert [line.split()[0] for line in table[1:]] == ids
    rows = list(csv.DictReader(io.StringIO(shell.run("runs", "list", "--tag", "forms", "-o", "csv").stdout)))
    assert [row["id"] for row in rows] == ids
    assert shell.run("runs", "list", "--tag", "forms", "-o", "yaml").stdout.count("requestId:") == 3
    assert len(shell.json("runs", "list", "--tag", "forms", "-n", "2")) == 2
    cut, whole = (shell.run("runs", "list", "--tag", "forms", "-n", limit) for limit in ("2", "3"))
    assert (cut.stderr, whole.stderr) == ("only the newest 2, there are more: -n 20\n", "")
    assert len(cut.stdout.splitlines()) == 3
    shell.run("runs", "wait", refs[0])
    assert shell.run("runs", "list", "--tag", "forms", "--stage", "FAILED").stdout == "no runs\n"


def test_an_idempotency_key_makes_one_run(shell: Shell) -> None:
    """The same command twice is one run; another payload under that key is refused."""
    arguments = ("runs", "submit", "cube", "--dry-run", "--idempotency-key", "monday-1")
    assert shell.run(*arguments, "--set", "n=1").stdout == shell.run(*arguments, "--set", "n=1").stdout
    assert "error[NX208]" in shell.run(*arguments, "--set", "n=2", code=2).stderr


def test_overrides_come_from_a_file(shell: Shell, tmp_path: Path) -> None:
    """`--config` changes sections for this run alone; a deadline of a second ends a run that sleeps."""
    (tmp_path / "over.yaml").write_text("runtimeEnvironment: {deadlineSeconds: 1}\n")
    done = shell.run("runs", "submit", "slow", "--config", str(tmp_path / "over.yaml"), "--wait", "-o", "json", code=1)
    assert json.loads(done.stdout)["status"] == "DEADLINE_EXCEEDED"


def test_interrupting_a_wait_leaves_the_run_going(shell: Shell) -> None:
    """Ctrl-C ends the wait with 130 and says how to go on; cancel then ends the run, and again changes nothing."""
    ref = shell.submit("slow")
    waiting = subprocess.Popen(
        [str(NEXUS), "runs", "wait", ref], env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    while "RUNNING" not in waiting.stderr.readline():
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    stdout, stderr = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, stdout) == (130, "")
    assert f"nexus runs wait {ref}" in stderr
    assert shell.json("runs", "show", ref)["stage"] == "RUNNING"
    assert "error[NX306]" in shell.run("runs", "wait", ref, "--timeout", "200ms", code=1).stderr
    assert "no result yet" in shell.run("runs", "result", ref, code=1).stderr
    assert "CANCELLED" in shell.run("runs", "cancel", ref, "--reason", "enough").stdout
    again = shell.json("runs", "cancel", ref, "--reason", "more", "--policy", "Foreground", "--timeout", "20s")
    assert again == {
        "algorithm": "slow", "requestId": ref.partition("/")[2], "status": "CANCELLED", "runErrorMessage": again["runErrorMessage"],
    }  # fmt: skip
    assert [each["end"] for each in shell.json("runs", "show", ref)["attempts"]] == ["cancelled"]
    assert "--policy Foreground" in shell.run("runs", "cancel", ref, "--timeout", "5s", code=2).stderr
    assert "enough" in shell.json("runs", "show", ref)["failureDetails"]


def test_results_are_stored_byte_for_byte(shell: Shell, tmp_path: Path) -> None:
    """A binary result goes to a file or a pipe as it is; an unwritable target is said."""
    ref = shell.submit("raw")
    shell.run("runs", "wait", ref)
    shell.run("runs", "result", ref, "--to", str(tmp_path / "out.bin"))
    assert (tmp_path / "out.bin").read_bytes() == bytes(range(256))
    refused = shell.run("runs", "result", ref, "--to", str(tmp_path / "out.bin"), code=1).stderr
    assert "exists" in refused
    assert "--force" in refused
    (tmp_path / "out.bin").write_bytes(b"older")
    (tmp_path / "link").symlink_to("out.bin")
    shell.run("runs", "result", ref, "--to", str(tmp_path / "link"), "--force")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out.bin").read_bytes() == bytes(range(256))
    shell.run("runs", "result", ref, "--to", "/dev/null")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out.bin"]
    assert "not JSON" in shell.run("runs", "result", ref, "-o", "json", code=2).stderr
    assert "redirect" in shell.run("runs", "result", ref, "-o", "json", "--to", "x", code=2).stderr
    piped = subprocess.run([str(NEXUS), "runs", "result", ref], env=shell.environment, capture_output=True, check=True)
    assert piped.stdout == bytes(range(256))
    assert "cannot be written" in shell.run("runs", "result", ref, "--to", str(tmp_path / "no" / "x"), code=2).stderr


def test_manifests_are_applied_once_and_refused_with_findings(shell: Shell, tmp_path: Path) -> None:
    """Applying again changes nothing; mistakes are named with file and line, and nothing is registered."""
    good = _manifest("late", tmp_path / "x.py")
    (tmp_path / "good.yaml").write_text(good)
    assert shell.json("apply", "-f", str(tmp_path))[0]["change"] == "created"
    assert shell.json("apply", "-f", str(tmp_path))[0]["change"] == "unchanged"
    (tmp_path / "bad.yaml").write_text("kind: NexusAlgorithmTemplate\nmetadata: {name: bad}\nspec:\n  command: [1]\n")
    refused = shell.run("apply", "-f", str(tmp_path), code=2).stderr
    assert f"{tmp_path / 'bad.yaml'}:" in refused
    assert "error[NX210]" in refused
    assert "container.image" in shell.run("algorithms", "show", "late", "-o", "csv").stdout
    names = [template["name"] for template in shell.json("algorithms", "list")]
    assert "late" in names
    assert "bad" not in names
    shown = shell.json("algorithms", "show", "late")
    assert shown["configuration"]["command"] == sys.executable
    assert "command" in shell.run("algorithms", "show", "late").stdout
    assert "error[" in shell.run("algorithms", "show", "nobody", code=1).stderr


def test_mistakes_are_answered_with_what_to_do(shell: Shell) -> None:
    """An unknown algorithm, an unknown run, a closed port, an address that is none."""
    unknown = shell.run("runs", "submit", "nobody", code=2).stderr
    assert "error[NX203]" in unknown
    assert "hint:" in unknown
    assert "error[NX202]" in shell.run("runs", "show", "cube", "00000000-0000-7000-8000-000000000000", code=1).stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # kept while it is asked: nobody else gets it, and nobody listens
        closed = shell.run("runs", "list", "--server", f"http://127.0.0.1:{port}", code=1).stderr
    assert "nexus serve" in closed
    assert "error[NX100]" in shell.run("runs", "list", "--server", "nonsense", code=2).stderr
    assert "nx_unknown" not in shell.run("runs", "list", "--token", "nx_unknown", code=1).stderr


def test_tokens_live_in_a_folder_no_service_holds(shell: Shell, tmp_path: Path) -> None:
    """A token is shown once, listed without its text and revoked; a folder in use is refused."""
    folder = str(tmp_path / "data")
    text = shell.run("tokens", "create", "ci", "--scope", "read", "--expires", "30d", "--data-dir", folder).stdout.strip()
    assert text.startswith("nx_")
    assert "error[NX1" in shell.run("tokens", "create", "ci", "--scope", "read", "--data-dir", folder, code=1).stderr
    listed = shell.run("tokens", "list", "-o", "json", "--data-dir", folder).stdout
    assert text not in listed
    assert [(token["name"], token["scopes"], token["state"]) for token in json.loads(listed)] == [("ci", ["read"], "valid")]
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or text.encode() not in file.read_bytes()
    shell.run("tokens", "revoke", "ci", "--data-dir", folder)
    assert shell.run("tokens", "list", "--data-dir", folder).stdout == "no tokens\n"
    assert "error[NX130]" in shell.run("tokens", "revoke", "ci", "--data-dir", folder, code=1).stderr
    assert "error[NX301]" in shell.run("tokens", "list", "--data-dir", str(shell.data_dir), code=1).stderr
    assert "is no data folder" in shell.run("tokens", "list", "--data-dir", str(tmp_path / "typo"), code=2).stderr
    assert not (tmp_path / "typo").exists()


def test_tokens_of_a_running_service(shell: Shell) -> None:
    """The same commands ask the service: good at once, shown once, worth nothing once revoked; a held folder says how."""
    made = shell.json("tokens", "create", "live", "--scope", "read", "--expires", "1h")
    assert made["state"] == "valid"
    text = made["token"]
    assert text.startswith("nx_")
    assert shell.json("runs", "list", "-n", "1", NEXUS__TOKEN=text) is not None
    assert "operate" in shell.run("tokens", "list", code=1, NEXUS__TOKEN=text).stderr
    listed = shell.run("tokens", "list", "-o", "json")
    assert text not in listed.stdout
    assert [(each["name"], each["scopes"], each["expires"]) for each in json.loads(listed.stdout)] == [
        ("live", ["read"], made["expires"]),
    ]  # fmt: skip
    assert "error[NX140]" in shell.run("tokens", "create", "live", "--scope", "read", "--server", shell.server, code=1).stderr
    held = shell.run("tokens", "list", "--data-dir", str(shell.data_dir), code=1).stderr
    assert "--server" in held
    assert "two places" in shell.run("tokens", "list", "--data-dir", "x", "--server", shell.server, code=2).stderr
    fallen_back = shell.run("tokens", "list", "-o", "json", NEXUS__DATA_DIR=str(shell.data_dir))
    assert json.loads(fallen_back.stdout)[0]["name"] == "live"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
        lost = shell.run("tokens", "list", code=1, NEXUS__DATA_DIR=str(shell.data_dir), NEXUS__SERVER=nobody).stderr
    assert "error[NX301]" in lost
    assert nobody in lost
    assert "is revoked" in shell.run("tokens", "revoke", "live").stderr
    assert "error[NX110]" in shell.run("runs", "list", code=1, NEXUS__TOKEN=text).stderr
    assert shell.run("tokens", "list").stdout == "no tokens\n"


def test_settings_show_where_they_come_from(shell: Shell, tmp_path: Path) -> None:
    """Default, file and environment, in this order of strength."""
    (tmp_path / "nexus.toml").write_text("port = 9001\nmax-runs = 3\n")
    rows = shell.json("settings", "--config", str(tmp_path / "nexus.toml"), NEXUS__PORT="9002")
    seen = {row["name"]: (row["value"], row["origin"]) for row in rows}
    assert seen["port"] == (9002, "environment NEXUS__PORT")
    assert seen["max_runs"] == (3, f"file {tmp_path / 'nexus.toml'}")
    assert seen["host"] == ("127.0.0.1", "default")
    assert "error[NX303]" in shell.run("settings", NEXUS__PORT="many", code=2).stderr


def test_doctor_finds_this_machine_fit(shell: Shell, tmp_path: Path) -> None:
    """Where the service runs nothing is missing, and it is reached; an unwritable folder is."""
    found = {row["check"]: row["status"] for row in shell.json("doctor", "--data-dir", str(shell.data_dir))}
    assert found["service"] == "ok"
    assert "missing" not in found.values()
    (tmp_path / "file").write_text("")
    assert "missing" in shell.run("doctor", "--data-dir", str(tmp_path / "file"), code=1).stdout


def test_the_sdk_speaks_to_the_same_service(shell: Shell) -> None:
    """Many submits in order, awaited, typed; metadata, tags and trees by the sync client."""
    with Nexus(shell.server) as nexus:
        runs = nexus.submit_many("cube", [{"n": n} for n in range(8)], tag="sdk")
        assert [nexus.result_value(run)["cube"] for run in runs] == [n**3 for n in range(8)]
        assert {result.ref for result in nexus.tagged("sdk")} == set(runs)
        assert nexus.metadata(runs[0]).lifecycle_stage == "COMPLETED"
        assert [run.ref for run in nexus.tree(runs[0])] == [runs[0]]
        assert nexus.queue()["stages"]["COMPLETED"] >= 8
