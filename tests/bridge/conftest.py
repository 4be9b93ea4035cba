"""A world for one session, and asynchronous tests on asyncio."""

from __future__ import annotations

import pytest

from tests.bridge.world import worlds


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(main, **settings) runs `main(world)` in virtual time."""
    return worlds(tmp_path, monkeypatch)
