"""nexusd demo --keep leaves nothing behind, whichever way it is told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.world import NEXUSD, PATIENCE, until


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_daemons_and_the_relay_end_with_it(how):
    process = subprocess.Popen([*NEXUSD, "demo", "--keep"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = json.loads(process.stdout.readline())
    roots = [os.path.dirname(said[name]) for name in ("alice", "bob")]
    pids = []
    for root in roots:
        report = os.path.join(root, "daemon.json")
        until(lambda report=report: os.path.exists(report), "no report")
        with open(report) as file:
            pids.append(json.load(file)["pid"])
    process.send_signal(how)
    assert process.wait(PATIENCE) in (0, 130)  # before or after its last word
    process.stdout.close()
    assert not any(os.path.exists(root) for root in roots)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
