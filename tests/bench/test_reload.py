"""How soon a running daemon follows: a session that is added, a setting that is changed, a session that is removed."""

from __future__ import annotations

import os
import statistics
import time

import pytest

from tests.world import until

pytestmark = pytest.mark.bench
ROUNDS = 20


def shown(what, taken):
    ms = sorted(1000 * seconds for seconds in taken)
    print(f"\n{what}: median {statistics.median(ms):.0f} ms, worst of {len(ms)} {ms[-1]:.0f} ms")


@pytest.fixture
def alice(relay, daemons):
    daemon = daemons("alice", relay.url, 'poll_interval = "30s"\nactive_poll_interval = "30s"\nlog_level = "info"')
    daemon.add("first", "--create")
    daemon.start()
    return daemon


def test_from_the_session_file_to_the_first_answered_poll(alice, relay):
    taken = []
    for n in range(ROUNDS):
        session, agent = relay.session(), f"agent-{n}"
        key = relay.join(session, agent)
        kept = alice.client_dir / "sessions" / session
        kept.mkdir(mode=0o700)
        for name, value in (("server", relay.url), ("key", key), ("agent", agent)):
            (kept / name).write_text(f"{value}\n")
        aside = alice.home / "sessions.d" / f".s{n}.tmp"
        aside.touch(0o600)
        aside.write_text(f'id = "{session}"\n')
        began = time.monotonic()
        aside.rename(aside.with_name(f"s{n}.toml"))
        view = alice.folder(f"s{n}") / "session.json"
        until(lambda view=view: view.exists() and '"state":"active"' in view.read_text())
        taken.append(time.monotonic() - began)
    shown("session file to the first answered poll, as session.json shows it", taken)


def test_from_nexusd_add_to_the_first_answered_poll(alice):
    taken = []
    for n in range(5):
        began = time.monotonic()
        alice.add(f"a{n}", "--create")
        view = alice.folder(f"a{n}") / "session.json"
        until(lambda view=view: view.exists() and '"state":"active"' in view.read_text())
        taken.append(time.monotonic() - began)
    shown("nexusd add, from its start, to the first answered poll", taken)


def test_from_a_changed_setting_to_its_effect(alice):
    taken = []
    for n in range(ROUNDS):
        before = (alice.home / "log").read_text().count("config.reloaded")
        began = time.monotonic()
        alice.configure(extra=f'poll_interval = "{31 + n}s"')
        until(lambda before=before: (alice.home / "log").read_text().count("config.reloaded") > before)
        taken.append(time.monotonic() - began)
    shown("changed config.toml to config.reloaded", taken)


def test_from_a_removed_session_to_the_daemon_having_let_go(alice):
    taken = []
    for n in range(ROUNDS):
        alice.add(f"r{n}", "--create")
        view = alice.folder(f"r{n}") / "session.json"
        until(lambda view=view: view.exists() and '"state":"active"' in view.read_text())
        began = time.monotonic()
        os.unlink(alice.home / "sessions.d" / f"r{n}.toml")
        until(lambda view=view: '"state":"stopped"' in view.read_text())
        taken.append(time.monotonic() - began)
    shown("removed session file to the session being let go", taken)
