"""The service is killed at every named step and at random; nothing acknowledged is lost, doubled or started twice."""

from __future__ import annotations

import threading

import pytest

from nexus.testing.kill import ACCEPT_AGAIN_S, PATIENCE_S, STEPS, Trial

pytestmark = pytest.mark.faults


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
        assert len(trial.returns) == 21
        assert max(each.own_s for each in trial.returns) < ACCEPT_AGAIN_S
        assert min(each.served_s for each in trial.returns) < ACCEPT_AGAIN_S  # with its disk; slower ones are the machine's
        assert trial.stop() == 0
