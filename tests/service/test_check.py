"""nexusd check: what a configuration means."""

from __future__ import annotations

import json

import pytest

from nexusd.cli.service.sharing import shared
from nexusd.config.load import load

ID = "0123456789abcdef0123456789abcdef0123456789abcdef{:02}"


def check(daemon, *, sessions=0, settings=""):
    daemon.configure(
        extra=settings, sessions="".join(f'[sessions.s{n}]\nid = "{ID.format(n)}"\n' for n in range(sessions))
    )
    ran = daemon.command("check", check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran, json.loads(ran.stdout)


@pytest.fixture
def alice(daemons):
    return daemons("alice", "http://127.0.0.1:9")


def test_what_it_means_in_requests_and_seconds(alice):
    quick = 'poll_interval = "10s"\nactive_poll_interval = "5s"\nrequests_per_minute = 90'
    ran, said = check(alice, sessions=3, settings=quick)
    assert (ran.returncode, said["ok"], said["file"]) == (0, True, str(alice.config))
    assert said["servers"] == [
        {
            "server": alice.server,
            "sessions": 3,
            "requestsPerMinute": 90,
            "wanted": 18.0,
            "wantedActive": 36.0,
            "polledWithin": 10.0,
            "polledWithinAtWorst": 12.0,
        }
    ]
    session = said["sessions"][0]
    assert (session["session"], session["resultingInterval"], session["joined"]) == ("s0", 10.0, False)
    assert ID.format(0) not in ran.stdout + ran.stderr


def test_too_many_sessions_are_stretched_and_warned_of(alice):
    ran, said = check(alice, sessions=60, settings='poll_interval = "30s"\nrequests_per_minute = 60')
    assert ran.returncode == 0
    assert said["sessions"][0]["resultingInterval"] == 60.0
    assert "60 sessions" in "".join(said["warnings"])
    assert "2.0 times more rarely, all within 60 s" in ran.stderr


def test_without_a_limit_nothing_is_stretched(alice):
    config = load(str(check(alice, sessions=1)[0].args[-1]))
    share = shared({"a": config.defaults}, 0)
    assert (share.limit, share.intervals, share.within) == (None, {"a": 0.2}, 0.2)
    assert shared({}, 90).within == 0.0


def test_all_faults_of_a_broken_one_are_said(alice):
    ran, said = check(alice, settings='poll_interval = "soon"\nrot = 1\nsettle = -1')
    assert (ran.returncode, said["ok"], said["error"]) == (78, False, "bad_config")
    assert len(said["faults"]) == 3
    assert len(ran.stderr.splitlines()) == 3


def test_what_is_allowed_and_still_not_good_is_warned_of(alice):
    client, root, folder = alice.client_dir, alice.root, alice.home / "sessions.d"
    for path in (client, root, folder):
        path.mkdir(mode=0o755)
    (folder / "notes.txt").write_text("")
    (folder / ".half.tmp").write_text("")
    settings = """
ttl = "61s"
poll_interval = "60s"
on_message = ["/no/such/program"]
metrics_file = "/no/such/folder/nexusd.prom"
ca_file = "/no/such/ca.pem"
allow_insecure = true
server = "http://relay.example"
"""
    ran, said = check(alice, sessions=1, settings=settings)
    assert ran.returncode == 0
    warnings = "\n".join(said["warnings"])
    for words in (
        f"chmod 700 {root}",
        f"chmod 700 {client}",
        "notes.txt is not read",
        ".half.tmp is not read",
        "it lives for 61 s and is polled each 60 s",
        "there is no program /no/such/program",
        "/no/such/folder cannot be written to",
        "ca.pem cannot be read",
        "allow_insecure",
        "http://relay.example is not encrypted",
        "it is joined when the daemon starts",
    ):
        assert words in warnings


def test_the_public_servers_limit_is_known(alice):
    limited = 'requests_per_minute = {}\nserver = "https://messaging.md"'
    for limit, warned in ((0, True), (90, False), (100, False), (101, True)):
        warnings = check(alice, sessions=1, settings=limited.format(limit))[1]["warnings"]
        assert bool([w for w in warnings if "allows 100" in w]) is warned


def test_a_session_that_lives_elsewhere_is_warned_of(pair):
    alice, _ = pair
    dropin = alice.home / "sessions.d" / "chat.toml"
    dropin.write_text(dropin.read_text() + 'server = "https://other.invalid"\n')
    said = json.loads(alice.command("check").stdout)
    assert f"but it lives on {alice.server}" in said["warnings"][0] + said["warnings"][-1]
    assert said["sessions"][0]["joined"] is True
