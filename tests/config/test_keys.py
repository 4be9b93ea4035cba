"""The table of keys, the example file, and what the code does without a file."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from nexusd.config.keys import BY_NAME, KEYS
from nexusd.config.load import load
from nexusd.config.records import Config, Settings

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
# A key's line, commented out, and the sentence above it. Examples of tables stand at the end and are left out.
_ENTRY = re.compile(r"^# (?P<sentence>[^\n]+)\n# (?P<key>[a-z_]+) = (?P<value>.+)$", re.MULTILINE)


def entries() -> list[tuple[str, str, str]]:
    text = EXAMPLE.read_text().partition("# [sessions.")[0]
    return [(m["key"], m["value"], m["sentence"]) for m in _ENTRY.finditer(text)]


def loaded(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(str(path), {})


def test_every_key_is_in_the_example_once_and_in_the_order_of_the_table():
    assert [key for key, _, _ in entries()] == [key.name for key in KEYS]


def test_every_line_of_the_example_is_a_comment():
    assert tomllib.loads(EXAMPLE.read_text()) == {}


def test_uncommenting_every_line_gives_the_defaults(tmp_path, monkeypatch):
    text = "\n".join(f"{key} = {value}" for key, value, _ in entries() if BY_NAME[key].default is not None)
    with_all = loaded(tmp_path, text, monkeypatch)
    with_none = loaded(tmp_path, "", monkeypatch)
    assert with_all == with_none
    assert with_none.defaults.poll_interval == 30.0


def test_the_control_another_value_in_the_example_would_be_seen(tmp_path, monkeypatch):
    text = "\n".join(f"{key} = {value}" for key, value, _ in entries() if BY_NAME[key].default is not None)
    with_all = loaded(tmp_path, text.replace('settle = "30s"', 'settle = "31s"'), monkeypatch)
    assert with_all != loaded(tmp_path, "", monkeypatch)


def test_what_stands_for_a_key_without_a_default_is_a_value_it_takes(tmp_path, monkeypatch):
    without = [key for key in KEYS if key.default is None]
    shown = {key: value for key, value, _ in entries()}
    config = loaded(tmp_path, "\n".join(f"{key.name} = {shown[key.name]}" for key in without), monkeypatch)
    values = {
        **dataclasses.asdict(config.defaults),
        **{f.name: getattr(config, f.name) for f in dataclasses.fields(config)},
    }
    assert all(values[key.name] is not None for key in without)


def test_each_sentence_is_the_keys_own_and_says_where_the_key_may_stand():
    for name, _, sentence in entries():
        key = BY_NAME[name]
        assert sentence.startswith(key.help), name
        assert ("(whole daemon)" in sentence) == (not key.session), name
        assert ("(none)" in sentence) == (key.default is None), name


def test_no_key_is_there_twice_and_each_has_its_place_in_the_records():
    assert len(BY_NAME) == len(KEYS)
    settings = {f.name for f in dataclasses.fields(Settings)}
    assert settings == {key.name for key in KEYS if key.session}
    daemon = {f.name for f in dataclasses.fields(Config)}
    assert {key.name for key in KEYS if not key.session} <= daemon


@pytest.mark.parametrize("key", KEYS, ids=[key.name for key in KEYS])
@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "", "\x00nonsense\x00", -1, 10**400, float("nan")])
def test_no_key_takes_nonsense_and_each_says_what_would_be_right(key, value):
    with pytest.raises(ValueError, match=r"\w") as caught:
        key.parse(value, "/")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", [key for key in KEYS if key.default is not None], ids=lambda key: key.name)
def test_every_default_is_a_value_the_key_takes(key):
    value = list(key.default) if isinstance(key.default, tuple) else key.default
    assert key.parse(value, "/") is not None


@pytest.mark.parametrize("agent", ["system", "", "a b", "é", "x" * 129, "a\n", 5])
def test_nobody_can_be_called(agent):
    with pytest.raises(ValueError, match=r"\w"):
        BY_NAME["agent_id"].parse(agent, "/")


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("agent_id", "x" * 128, "x" * 128),
        ("server", "https://x.example/", "https://x.example"),
        ("renew_for", "0", 0.0),
        ("renew_for", "always", "always"),
        ("keep_inbox", "always", "always"),
        ("keep_sent", "2h", 7200.0),
        ("poll_interval", "50ms", 0.05),
        ("requests_per_minute", 0, 0),
        ("on_message", ["a", "b c"], ("a", "b c")),
        ("max_message_bytes", "64MiB", 64 << 20),
    ],
)
def test_a_value_at_the_edge_is_taken(name, value, found):
    assert BY_NAME[name].parse(value, "/") == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poll_interval", "49ms"),
        ("poll_interval", "25h"),
        ("ttl", "59s"),
        ("ttl", "31d"),
        ("settle", "2h"),
        ("requests_per_minute", True),
        ("requests_per_minute", 1.5),
        ("requests_per_minute", "90"),
        ("on_message", "wake-agent"),
        ("on_message", [""]),
        ("on_message", ["a", 1]),
        ("max_message_bytes", 0),
        ("max_message_bytes", "65MiB"),
        ("inbox_own", "true"),
        ("inbox_own", 1),
        ("on_ambiguous", "retry"),
        ("log_level", "INFO"),
        ("renew_for", "never"),
        ("server", "messaging.md"),
        ("server", "https://[::1"),
    ],
)
def test_a_value_beyond_the_edge_is_refused(name, value):
    with pytest.raises(ValueError, match=r"\w"):
        BY_NAME[name].parse(value, "/")


def test_a_path_counts_from_the_files_folder_and_from_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parse = BY_NAME["root"].parse
    assert parse("nexus", "/etc/nexusd") == "/etc/nexusd/nexus"
    assert parse("../x", "/etc/nexusd") == "/etc/x"
    assert parse("/abs", "/etc/nexusd") == "/abs"
    assert parse("~/n", "/etc/nexusd") == "/home/me/n"
