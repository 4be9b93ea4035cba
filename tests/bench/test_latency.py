"""How long a dropped file takes to be on the server."""

from __future__ import annotations

import statistics
import time
from datetime import datetime

import pytest

from tests.world import until

pytestmark = pytest.mark.bench


def test_rename_into_the_outbox_to_accepted_by_the_relay(relay, daemons):
    alice = daemons("alice", relay.url, 'poll_interval = "30s"\nlog_level = "warning"')
    alice.add("chat", "--create")
    alice.start(ready=False)
    until(lambda: alice.folder("chat").joinpath("session.json").exists())
    alice.drop("chat", "first", "warm up")
    alice.receipt("chat", "first")
    taken = []
    session = next(alice.client_dir.joinpath("sessions").iterdir()).name
    for n in range(100):
        began = time.time()
        alice.drop("chat", f"{n}.txt", f"message {n}")
        receipt = alice.receipt("chat", f"{n}.txt")
        message = next(m for m in relay.messages(session, "alice") if m["id"] == receipt["id"])
        taken.append(1000 * (_seconds(message["sentAt"]) - began))
    print(f"\nrename to accepted: median {statistics.median(taken):.1f} ms, worst of 100 {max(taken):.1f} ms")
    assert len(taken) == 100


def _seconds(stamp):
    return datetime.fromisoformat(stamp).timestamp()
