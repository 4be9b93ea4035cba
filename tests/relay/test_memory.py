"""How much memory ten thousand sessions take. Run with  python -m pytest -m bench -s tests/relay."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import nexusd

SESSIONS = 10_000
STORY = f"""
import json, secrets, time
from nexusd.relay import serve  # all that a running relay has loaded
from nexusd.relay.app import build_app
from nexusd.relay.exchange import Exchange
from nexusd.relay.fields import Creation

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

exchange = Exchange(time.time, secrets.token_bytes)
app = build_app(exchange)
empty = resident()
for number in range({SESSIONS}):
    session = exchange.create(Creation(greeting="hello", creator="alice"))["sessionId"]
    exchange.join(session, "bob")
    for _ in range(3):
        exchange.send(session, "bob", None, f"message of session {{number}}, of an ordinary length, " + "x" * 100)
print(json.dumps({{**exchange.stats(), "emptyMiB": round(empty, 1), "fullMiB": round(resident(), 1)}}))
"""


@pytest.mark.bench
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
def test_ten_thousand_sessions_fit_into_150_mib() -> None:
    root = os.path.dirname(os.path.dirname(os.path.abspath(nexusd.__file__)))
    ran = subprocess.run(
        [sys.executable, "-c", STORY], env={**os.environ, "PYTHONPATH": root}, capture_output=True, check=True
    )
    found = json.loads(ran.stdout)
    print(found)
    assert (found["activeSessions"], found["totalAgents"], found["totalMessages"]) == (SESSIONS, 20_000, 30_000)
    assert found["fullMiB"] < 150
