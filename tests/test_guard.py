"""What the secret guard holds, what it lets pass, and that it never repeats the secret itself."""

from __future__ import annotations

import doctest
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd import guard
from tests.world import until

A36 = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
HELD = {
    "AWS access key id": "my id is AKIAQWERTYUIOP234567, use it",
    "GitHub token": f"ghp_{A36}",
    "GitLab token": "token glpat-xY3_abcdefghijklmnop here",
    "Anthropic key": "sk-ant-api03-abcdefghijklmnopqrstuv",
    "API key (sk-)": "OPENAI: sk-proj-Ab1cdefghijklmnopqrst",
    "Slack token": "xoxb-123456789012-abcdef",
    "Google API key": "AIza" + "Sy0-" + "a" * 31,
    "Hugging Face token": "hf_" + "aB" * 17,
    "npm token": f"npm_{A36}",
    "age key": "AGE-SECRET-KEY-1" + "Q" * 58,
    "private key": f"-----BEGIN RSA PRIVATE KEY-----\n{KEY}\n-----END RSA PRIVATE KEY-----",
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "authorization header": "curl -H 'Authorization: Bearer abcdef0123456789abcdef'",
    "password in a URL": "postgres://admin:s3cr3t@db.example.org/app",
    "password or key": "DB_PASSWORD=correct-horse-7",
}
BY_PLUGINS = {
    "SendGrid API Key": f"SG.{'a' * 22}.{'b' * 43}",
    "Stripe Access Key": "sk_live_" + "a1" * 12,
    "Twilio API Key": "AC" + "0a" * 16,
    "Telegram Bot Token": "1234567890:" + "a" * 35,
}
PASSED = [
    "the password is behind the mirror",
    "password: required",
    "password = getpass()",
    "password = os.environ['DB_PASSWORD1']",
    "password=${DB_PASSWORD_1}",
    "password: <your password 1>",
    'password = "your_password_123"',
    "api_key: str | None = None",
    '{"password": "string"}',
    "PWD=/home/user1/project2",
    "secret: https://vault.example.org/a1",
    "passwords: 3 of 10 used; tokens: 123456",
    "A key begins with -----BEGIN RSA PRIVATE KEY----- and then comes base64.",
    "AKIAIOSFODNN7EXAMPLE",
    "sk-learn-is-a-library-for-machines, risk-averse-people-and-their-friends",
    "https://user:password@example.org/ is the form",
    "https://example.org:8080/path@2x.png",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "msg_x7k9 ghp_short xoxb eyJ. AIza",
    "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ" * 40,
]


@pytest.mark.parametrize("rule", HELD)
def test_what_has_the_form_of_a_secret_is_found_by_its_rule(rule):
    assert guard.found(HELD[rule]) == rule
    assert guard.found(f"Hello,\n\n{HELD[rule]}\n\nbye") == rule
    assert guard.found(None, {"a": ["x", {"note": HELD[rule]}]}) == rule
    assert guard.found("x" * 70_000 + "\n" + HELD[rule]) == rule


@pytest.mark.parametrize("rule", BY_PLUGINS)
def test_the_extra_finds_more(rule):
    pytest.importorskip("detect_secrets")
    assert guard.found(f"it is {BY_PLUGINS[rule]}.") == rule
    assert guard.found("y " * 9000 + BY_PLUGINS[rule]) == rule


@pytest.mark.parametrize("text", PASSED)
def test_what_only_speaks_of_secrets_is_let_pass(text):
    assert guard.found(text) is None
    assert guard.found(None, {"note": text}) is None


@pytest.mark.parametrize(
    "payload",
    [
        {"password": "hunter2x"},
        {"db": {"password": 12345678}},
        [{"api_key": "abc123def"}],
        {"clientSecret": "p@ssword!"},
    ],
)
def test_a_json_member_with_a_telling_name_is_found(payload):
    assert guard.found(None, payload) == "password or key"


@pytest.mark.parametrize("payload", [{"password": None}, {"password": True}, {"password": ""}, {"secret": []}, 7, "x"])
def test_a_json_member_without_a_value_is_none(payload):
    assert guard.found(None, payload) is None


def test_a_secret_over_the_edge_of_a_piece_is_found():
    for begin in range(guard.PIECE - 60, guard.PIECE + 10, 7):
        assert guard.found("." * begin + " " + HELD["GitHub token"]) == "GitHub token"


def test_the_longest_lines_are_looked_at_in_pieces():
    for line in ("sk-" * 80_000, "a" * 250_000, "0" * 250_000, "eyJ" * 80_000, "://a" * 60_000, "password=" * 25_000):
        assert guard.found(line) is None


def test_deep_nesting_is_no_error():
    payload = "x"
    for _ in range(50_000):
        payload = [payload]
    assert guard.found(None, payload) is None


@given(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    ),
)
def test_nothing_makes_it_raise(text, payload):
    guard.found(text, payload)


def test_the_examples_of_its_docstring_hold():
    assert doctest.testmod(guard).failed == 0


# ---- in the daemon

SECRET = "correct-horse-battery-7"
TEXT = f"log in with password={SECRET}\n"


def test_a_file_with_a_secret_is_held_and_its_value_is_nowhere_else(pair):
    alice, bob = pair
    alice.drop("chat", "how-to.txt", TEXT)
    error = alice.error("chat", "how-to.txt")
    assert error["error"] == "held_secret"
    assert "(password or key)" in error["message"]
    assert "nexusd release chat how-to.txt" in error["remedy"]
    until(lambda: "bounced" in alice.notices("chat"))
    alice.drop("chat", "next.txt", "no secret")
    until(lambda: bob.texts("chat") == ["no secret"])
    alice.stop()
    os.unlink(alice.folder("chat") / "failed" / "how-to.txt")
    assert SECRET not in alice.texts_everywhere()


def test_release_sends_it_once_and_only_this_file(pair):
    alice, bob = pair
    alice.drop("chat", "how-to.txt", TEXT)
    alice.error("chat", "how-to.txt")
    assert json.loads(alice.command("release", "chat", "how-to.txt").stdout)["was"] == "held_secret"
    alice.receipt("chat", "how-to.txt")
    until(lambda: len(bob.texts("chat")) == 1)
    assert not list((alice.folder("chat") / ".nexusd" / "released").iterdir())
    alice.drop("chat", "how-to.txt", TEXT)
    assert alice.error("chat", "how-to.txt")["error"] == "held_secret"


def test_a_word_for_an_earlier_file_does_not_count_for_a_later_one(pair):
    alice, _ = pair
    mark = alice.folder("chat") / ".nexusd" / "released" / "how-to.txt"
    mark.parent.mkdir()
    mark.touch()
    os.utime(mark, (1, 1))
    alice.drop("chat", "how-to.txt", TEXT)
    assert alice.error("chat", "how-to.txt")["error"] == "held_secret"


@pytest.mark.parametrize(("guards", "said"), [("warn", True), ("off", False)])
def test_warn_only_logs_and_off_does_nothing(relay, daemons, guards, said):
    alice = daemons("alice", relay.url, f'secret_guard = "{guards}"')
    alice.add("chat", "--create")
    alice.start()
    alice.drop("chat", "how-to.txt", TEXT)
    alice.receipt("chat", "how-to.txt")
    assert [e["rule"] for e in alice.events() if e["event"] == "outbox.secret"] == ["password or key"] * said
    assert SECRET not in (alice.home / "log").read_text()


def test_without_the_extra_it_is_off_unless_asked_for_and_says_so(relay, daemons, tmp_path):
    hidden = {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'detect_secrets' else find(name, package)\n"
    )
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url, 'secret_guard = "hold"')
    for daemon, level in ((alice, "debug"), (bob, "warning")):
        daemon.add("chat", "--create")
        daemon.start(environment=hidden)
        daemon.drop("chat", "how-to.txt", TEXT)
        assert [e["level"] for e in daemon.events() if e["event"] == "guard.incomplete"] == [level]
    alice.receipt("chat", "how-to.txt")
    assert bob.error("chat", "how-to.txt")["error"] == "held_secret"
