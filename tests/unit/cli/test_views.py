"""Runs as the command line shows them, and what it makes of its options."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nexus.cli import output, runs, runs_views
from nexus.kernel.errors import InvalidInput
from nexus.sdk.model import Attempt, Parent, RunView

BEGAN = datetime(2026, 11, 21, 13, 30, tzinfo=UTC)


def _run(number: int, parent: int | None = None, **fields: Any) -> RunView:
    return RunView(**{
        "request_id": f"id-{number}", "algorithm": f"a{number}", "stage": "COMPLETED", "root_id": "id-1", "received_at": BEGAN,
        "started_at": BEGAN, "last_modified": BEGAN + timedelta(seconds=2),
        "parent": Parent(f"a{parent}", f"id-{parent}") if parent is not None else None,
        **fields,
    })  # fmt: skip


def test_a_tree_is_drawn_from_its_root() -> None:
    """Children hang under their parents, in the order they were made; the run asked for is marked."""
    tree = [_run(4, 2, stage="FAILED", failure_cause="boom\nmore"), _run(1, tag="top"), _run(2, 1), _run(3, 1, stage="RUNNING")]
    assert runs_views.tree(tree, "id-3") == (
        "COMPLETED  a1/id-1  [top]  2.0 s\n"
        "├── COMPLETED  a2/id-2  2.0 s\n"
        "│   └── FAILED  a4/id-4  2.0 s  - boom\n"
        "└── RUNNING  a3/id-3  <\n"
    )
    assert runs_views.tree(tree, ascii_only=True).isascii()


def test_a_tree_without_its_root_is_still_drawn() -> None:
    """A run whose parent is not in the answer, or is itself, stands at the left."""
    assert runs_views.tree([_run(2, 1), _run(3, 3)]).splitlines() == ["COMPLETED  a2/id-2  2.0 s", "COMPLETED  a3/id-3  2.0 s"]


def test_a_deep_tree_is_no_recursion() -> None:
    """Depth costs width, not the stack."""
    chain = [_run(1), *(_run(number, number - 1) for number in range(2, 1500))]
    assert runs_views.tree(chain).count("└── ") == 1498


def test_a_record_keeps_the_lines_of_its_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is read line by line, and still steers no terminal."""
    output.emit_one({"cause": "boom", "details": "Traceback:\n\tmain.py\x1b[2J\n\nboom\n", "tag": None, "attempt": 2}, "table")
    assert capsys.readouterr().out == (
        "cause    boom\ndetails  Traceback:\n                 main.py\N{REPLACEMENT CHARACTER}[2J\n\n         boom\nattempt  2\n"
    )


ATTEMPTS = [
    Attempt(attempt=1, state="ended", started_at=BEGAN, ended_at=BEGAN + timedelta(seconds=90), took_seconds=90.0, end="exited",
            why="it exited with code 3", exit_code=3, logs={"stdout": "u", "stderr": "v"}),
    Attempt(attempt=2, state="ended", ended_at=BEGAN, end="signalled", why="it was ended by signal 9 (SIGKILL)", signal=9),
    Attempt(attempt=3, state="running", started_at=BEGAN, logs={"stdout": "u", "stderr": "v"}),
]  # fmt: skip


def test_attempts_are_listed_one_by_one() -> None:
    """Number, times, how long, why it ended, exit code or signal, and whether its logs can be read."""
    table = output.render(runs_views.attempts(_run(1, attempts=ATTEMPTS)), "table", runs_views.ATTEMPT_COLUMNS)
    assert table.splitlines() == [
        "ATTEMPT  STARTED               ENDED                 TOOK        EXIT      LOGS  WHY",
        "1        2026-11-21 13:30:00Z  2026-11-21 13:31:30Z  1 min 30 s  3         kept  it exited with code 3",
        "2                              2026-11-21 13:30:00Z              signal 9  gone  it was ended by signal 9 (SIGKILL)",
        "3        2026-11-21 13:30:00Z                                              kept  running",
    ]


def test_attempts_are_whole_in_json_and_left_out_of_csv() -> None:
    """`-o json` carries them as the service tells them; one line of CSV has no room for lists."""
    run = _run(1, attempts=ATTEMPTS)
    assert [each["attempt"] for each in runs_views.plain(run)["attempts"]] == [1, 2, 3]
    assert runs_views.plain(run)["attempts"][0]["exitCode"] == 3
    assert not {"attempts", "lateReports"} & runs_views.flat(run).keys()


@pytest.mark.parametrize(
    ("value", "fmt", "printed"),
    [
        ([{"a": 1, "b": [1, {"c": "ü"}]}, {"a": 2}], "table", 'A  B\n1  [1, {"c": "ü"}]\n2\n'),
        ([{"a": 1, "b": {}}, {"a": 2}], "csv", "a,b\n1,{}\n2,\n"),
        ({"sum": 36, "deep": {"er": True}}, "table", 'sum   36\ndeep  {"er": true}\n'),
        ({"sum": 36}, "csv", "sum\n36\n"),
        ([1, "two"], "csv", "value\n1\ntwo\n"),
        (123456789012345678901234567890, "json", "123456789012345678901234567890\n"),
        ({"ü": [1]}, "json", '{\n  "ü": [\n    1\n  ]\n}\n'),
        ({"b": 1, "a": ["x"]}, "yaml", "b: 1\na:\n- x\n"),
        ([], "table", "nothing to show\n"),
    ],
)
def test_any_result_is_printed_in_every_form(capsys: pytest.CaptureFixture[str], value: Any, fmt: str, printed: str) -> None:
    """Objects are records, lists of objects rows, everything else a column; what is nested stays JSON."""
    output.emit_value(value, fmt)
    assert capsys.readouterr().out == printed


def test_what_is_printed_as_json_has_the_wires_names() -> None:
    """`-o json` shows the service's field names and times."""
    plain = runs_views.plain(_run(2, 1, payload_bytes=7))
    assert plain["requestId"] == "id-2"
    assert plain["receivedAt"] == "2026-11-21T13:30:00Z"
    assert plain["parent"] == {"algorithmName": "a1", "requestId": "id-1"}


def test_parameters_come_from_pairs_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--set` writes JSON or text, at any depth, over what the payload holds; big numbers keep their digits."""
    assert runs.read_parameters(None, ()) == {}
    assert runs.read_parameters(None, ("n=3", "name=x y", "deep.er=[1]", "deep.est=null", "empty=", "eq=a=b")) == {
        "n": 3, "name": "x y", "deep": {"er": [1], "est": None}, "empty": "", "eq": "a=b",
    }  # fmt: skip
    (tmp_path / "p.json").write_text('{"n": 1, "big": 123456789012345678901234567890}')
    assert runs.read_parameters(str(tmp_path / "p.json"), ()) == tmp_path / "p.json"
    changed = runs.read_parameters(str(tmp_path / "p.json"), ("n=2",))
    assert json.dumps(changed) == '{"n": 2, "big": 123456789012345678901234567890}'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1.0}')))
    assert runs.read_parameters("-", ()) == b'{"a": 1.0}'


@pytest.mark.parametrize("pair", ["n", "=3", "a..b=1", "n.deeper=1", pytest.param("n=" + "[" * 100_000, id="deep")])
def test_pairs_that_lead_nowhere_are_refused(pair: str) -> None:
    """A missing `=`, an empty name, a way through a number."""
    with pytest.raises(InvalidInput, match="--set"):
        runs.read_parameters(None, ("n=1", pair))


def test_unreadable_payloads_are_named(tmp_path: Path) -> None:
    """A missing or broken file, when pairs are to change it."""
    (tmp_path / "broken").write_text("{")
    for name in ("missing", "broken"):
        with pytest.raises(InvalidInput, match=name):
            runs.read_parameters(str(tmp_path / name), ("n=1",))
