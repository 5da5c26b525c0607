"""What an exit means: retries, ends, causes a person understands."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from nexus.runs import lifecycle
from nexus.runs.configuration import Configuration, merge
from nexus.runs.diagnosis import TRANSIENT_CAP, BackOff, End, Retry, is_reported, judge, overdue
from nexus.runs.model import Exit, ExitKind, Run, Stage
from nexus.runs.ports import StoredManifest
from nexus.runs.templates import Template
from tests.unit.runs.test_lifecycle import LATER, NOW, run

PAUSES = BackOff(base=timedelta(seconds=10), ceiling=timedelta(minutes=6))


def configuration(completion: str = "report", **environment: object) -> Configuration:
    body = {
        "apiVersion": "science.sneaksanddata.com/v1",
        "kind": "NexusAlgorithmTemplate",
        "metadata": {"name": "demand", "annotations": {"local.nexus/completion": completion}},
        "spec": {
            "container": {"image": "i", "registry": "r", "versionTag": "1"},
            "command": "true",
            "computeResources": {"memoryLimit": "512Mi"},
            "runtimeEnvironment": environment,
            "errorHandlingBehaviour": {"transientExitCodes": [137], "fatalExitCodes": [134]},
        },
    }
    stored = StoredManifest(
        kind="NexusAlgorithmTemplate", name="demand", namespace="nexus", revision=1, body=msgspec.json.encode(body), source="t",
        trusted=True, stored_at=NOW,
    )  # fmt: skip
    return merge(Template.from_stored(stored), None)


def exited(code: int) -> Exit:
    return Exit(kind=ExitKind.EXITED, ended_at=LATER, code=code)


def running(**changes: object) -> Run:
    return lifecycle.started(run(**changes), "uid", 1, NOW)


def test_exit_0_without_a_report_is_a_failure_with_a_cause_of_its_own() -> None:
    """A process that ends well but never reported fails its run, and an uploaded result is kept."""
    end = judge(running(result_uri="nexus:x"), exited(0), configuration(), LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert (end.stage, end.cause) == (Stage.FAILED, "Algorithm ended without reporting.")
    assert "kept" in end.details


def test_a_template_may_say_that_its_exit_code_is_the_completion() -> None:
    """With ``completion: exit-code``, 0 completes the run."""
    end = judge(running(), exited(0), configuration("exit-code"), LATER, PAUSES, used_s=5.0)
    assert end == End(stage=Stage.COMPLETED)


def test_transient_codes_are_retried_without_counting_up_to_a_cap() -> None:
    """Code 137 of the template is retried with back-off; the hundredth time it is the end."""
    again = judge(running(transient_failures=2), exited(137), configuration(), LATER, PAUSES, used_s=5.0)
    assert again == Retry(counted=False, not_before=LATER + timedelta(seconds=40))
    last = judge(running(transient_failures=TRANSIENT_CAP), exited(137), configuration(), LATER, PAUSES, used_s=5.0)
    assert isinstance(last, End)
    assert "transient" in last.cause


def test_fatal_codes_fail_at_once() -> None:
    """Code 134 is not retried although retries are left (and the text is said once: weakness 20)."""
    end = judge(running(), exited(134), configuration(maximumRetries=5), LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert end.cause == "Algorithm encountered a fatal error: it exited with code 134."


def test_other_codes_count_and_exhaustion_is_failed_not_deadline() -> None:
    """``maximumRetries: 2`` gives three attempts; then FAILED with a cause of its own (weakness 20)."""
    settings = configuration(maximumRetries=2)
    assert judge(running(), exited(3), settings, LATER, PAUSES, used_s=5.0) == Retry(
        counted=True, not_before=LATER + timedelta(seconds=10)
    )
    end = judge(running(counted_failures=2), exited(3), settings, LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert (end.stage, end.cause) == (
        Stage.FAILED,
        "Retries exhausted: 3 attempts failed, the last one: it exited with code 3.",
    )


def test_without_maximum_retries_the_first_failure_is_the_end() -> None:
    """Absent means 0."""
    end = judge(running(), exited(3), configuration(), LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert end.cause == "Algorithm failed: it exited with code 3."


@pytest.mark.parametrize(
    ("exit_", "words"),
    [
        (Exit(kind=ExitKind.SIGNALLED, ended_at=LATER, signal=11), "signal 11 (SIGSEGV)"),
        (Exit(kind=ExitKind.LOST, ended_at=LATER), "its process was lost"),
    ],
)
def test_each_end_has_a_cause_a_person_understands(exit_: Exit, words: str) -> None:
    """Signals are named, a lost process says so."""
    end = judge(running(), exit_, configuration(), LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert words in end.cause


def test_memory_is_named_with_limit_and_use_and_counts_as_137() -> None:
    """A run ended by the memory watch says how much it used of what; the code is 137 as Kubernetes reports it."""
    exit_ = Exit(kind=ExitKind.OUT_OF_MEMORY, ended_at=LATER, peak_memory_bytes=700 * 2**20)
    assert isinstance(judge(running(), exit_, configuration(), LATER, PAUSES, used_s=5.0), Retry)  # 137 is transient here
    full = running(transient_failures=TRANSIENT_CAP)
    end = judge(full, exit_, configuration(), LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert "512.0 MiB, it used 700.0 MiB" in end.cause


def test_launch_failure_is_a_scheduling_failure() -> None:
    """A command that never ran makes SCHEDULING_FAILED with the engine's words in the details."""
    end = judge(
        running(),
        Exit(kind=ExitKind.LAUNCH_FAILED, ended_at=LATER, detail="no such file"),
        configuration(),
        LATER,
        PAUSES,
        used_s=5.0,
    )
    assert isinstance(end, End)
    assert (end.stage, end.details) == (Stage.SCHEDULING_FAILED, "no such file")


def test_the_deadline_covers_all_attempts() -> None:
    """A retry that could only begin after the limit is not begun: DEADLINE_EXCEEDED."""
    settings = configuration(deadlineSeconds=12, maximumRetries=9)
    end = judge(running(), exited(3), settings, LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert end.stage is Stage.DEADLINE_EXCEEDED
    assert overdue(settings, 11.0) is None
    late = overdue(settings, 12.0)
    assert late is not None
    assert "12.0 s" in late.cause


@pytest.mark.parametrize("code", [0, 1, 134, 137])
@pytest.mark.parametrize("retries", [0, 1])
def test_a_cause_is_known_to_be_ours_or_the_algorithms(code: int, retries: int) -> None:
    """A judged end is told from a reported one by its cause: what the algorithm said may quote its payload."""
    begun = running(counted_failures=retries, transient_failures=TRANSIENT_CAP)
    end = judge(begun, exited(code), configuration(maximumRetries=retries), LATER, PAUSES, used_s=5.0)
    assert isinstance(end, End)
    assert end.stage is Stage.FAILED
    assert not is_reported(lifecycle.ended(begun, end.stage, end.cause, end.details, LATER))
    assert is_reported(lifecycle.ended(begun, Stage.FAILED, "ValueError: card 4711", "", LATER))
    assert not is_reported(lifecycle.cancelled(begun, "ada", "", LATER))
