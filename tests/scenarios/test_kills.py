"""The service is killed at every named step and at random; nothing acknowledged is lost, doubled or started twice."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from pathlib import Path

import pytest

import nexus
from nexus.testing.kill import ACCEPT_AGAIN_S, PATIENCE_S, STEPS, Trial
from tests.scenarios.service import eventually

pytestmark = pytest.mark.faults


def test_every_step_the_service_names_is_killed() -> None:
    """The steps below are all those that stand in the service's code."""
    source = Path(nexus.__file__).parent
    named = {step for file in source.rglob("*.py") for step in re.findall(r'step\("([a-z.-]+)"\)', file.read_text())}
    assert named == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_each_step_loses_nothing(step: str) -> None:
    """The service kills itself the third time it reaches the step; the next start holds every promise (weaknesses 1, 5, 8)."""
    with Trial(seed=STEPS.index(step)) as trial:
        trial.start(kill_at=step, nth=3)
        trial.load(PATIENCE_S)  # ends with the service
        assert trial.died(), f"the step {step} was never reached"
        trial.start()
        stages = trial.check()
        assert sum(stages.values()) >= len(trial.ledger.accepted)
        assert trial.stop() == 0


def test_w19_a_cancel_that_is_not_stored_ends_no_process() -> None:
    """A service killed before it stores a cancel has not touched the process: it works to its own end (weakness 19)."""
    with Trial() as trial:
        trial.start(kill_at="cancel.before-store")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", trial.port, timeout=PATIENCE_S)) as connection:
            run_id = trial.submit(connection, "held", "w19")
            eventually((trial.starts / run_id).exists, "the process")
            body = b'{"initiator": "x", "reason": "y", "cancellationPolicy": "Background"}'
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                connection.request(
                    "POST", f"/algorithm/v1/cancel/held/requests/{run_id}", body, {"Content-Type": "application/json"}
                )
                connection.getresponse()
        assert trial.died()
        trial.start()
        trial.check()
        (run,) = trial.runs()
        assert (run["stage"], run["attempt"], run["failureCause"]) == ("FAILED", 1, "Algorithm ended without reporting.")


@pytest.mark.parametrize("seed", range(3))
def test_twenty_random_kills_lose_nothing(seed: int) -> None:
    """Twenty lives of one data folder, each ended at a random moment under load; three times, sixty in all; each is back in 2 s."""
    with Trial(seed) as trial:
        for _ in range(20):
            trial.start()
            killer = threading.Timer(trial.random.uniform(0.02, 0.6), trial.kill)
            killer.start()
            trial.load(2.0)
            killer.join()
        trial.start()
        trial.check()
        first, *again = trial.returns
        assert len(again) == 20
        assert max(each.own_s for each in again) < max(ACCEPT_AGAIN_S, 4 * first.own_s)  # a slow machine is always slow
        assert min(each.served_s for each in again) < max(ACCEPT_AGAIN_S, 2 * first.wall_s)  # with its disk
        assert trial.stop() == 0
