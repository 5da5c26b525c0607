from __future__ import annotations

import pytest

from tests.unit.api.service import House


@pytest.fixture
async def house() -> House:
    """A service with `hello-world` registered, and nothing else."""
    return await House().furnish()
