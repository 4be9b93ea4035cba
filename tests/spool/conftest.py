"""A session's folder."""

from __future__ import annotations

import signal

import pytest

from nexusd.spool.layout import SessionFolder


@pytest.fixture
def folder(tmp_path) -> SessionFolder:
    made = SessionFolder(str(tmp_path / "root"), "chat")
    made.make()
    return made


@pytest.fixture(autouse=True)
def _no_sigio():
    """As the daemon does: a lease being broken is nothing to die of."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)
