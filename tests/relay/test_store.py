"""What a relay finds again."""

from __future__ import annotations

import os
import random
import sqlite3
import stat

import pytest

from nexusd.relay.exchange import Exchange
from nexusd.relay.fields import Creation
from nexusd.relay.store import FILE, VERSION, Store, StoreError

from .conftest import refused


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path / "data" / "relay")


@pytest.fixture
def opened(folder):
    """Opens a relay on the folder; the one before it is closed."""
    stores = []

    def open_it(clock, seed: int = 1) -> Exchange:
        for store in stores:
            store.close()
        stores.append(Store(folder))
        return Exchange(clock, random.Random(seed).randbytes, stores[-1])

    open_it.stores = stores
    yield open_it
    for store in stores:
        store.close()


def test_sessions_agents_and_keys_survive_but_messages_and_codes_do_not(opened, clock) -> None:
    before = opened(clock)
    created = before.create(Creation(ttl=600, max_agents=3, greeting="welcome", creator="alice"))
    session_id = created["sessionId"]
    key = before.join(session_id, "bob")["sessionKey"]
    before.send(session_id, "bob", key, "gone tomorrow")
    code = before.pair(session_id)["code"]
    described = before.describe(session_id)
    greeted = before.poll(session_id, "bob")["messages"][0]

    after = opened(clock, 2)
    assert after.describe(session_id) == described
    assert after.poll(session_id, "bob")["messages"] == [greeted]
    assert after.poll(session_id, "bob", "1") == {"messages": [], "nextCursor": "1"}
    assert after.send(session_id, "bob", key, "cursors begin again")["cursor"] == "1"
    assert after.poll(session_id, "bob", "0")["messages"][0]["verified"] is True
    with refused(403, "invalid_session_key"):
        after.send(session_id, "alice", key, "not mine")
    with refused(403, "forbidden"):
        after.leave(session_id, "alice", "alice", created["sessionKey"])
    with refused(404, "code_not_found"):
        after.claim(code, "carol")


def test_leaving_sliding_and_renewing_are_written_down(opened, clock) -> None:
    before = opened(clock)
    first, second = (before.create(Creation(creator="alice"))["sessionId"] for _ in range(2))
    key = before.join(first, "bob")["sessionKey"]
    before.leave(first, "bob", "bob", key)
    clock.pass_by(100)
    before.send(first, "alice", None, "sliding")
    before.renew(second, "alice", 120)
    described = before.describe(first), before.describe(second)
    after = opened(clock)
    assert (after.describe(first), after.describe(second)) == described
    assert described[1]["ttl"] == 120


def test_what_ended_meanwhile_is_not_there_any_more(opened, clock, folder) -> None:
    session_id = opened(clock).create(Creation(creator="alice"))["sessionId"]
    clock.pass_by(3660)
    after = opened(clock)
    with refused(404, "session_not_found"):
        after.describe(session_id)
    opened.stores[-1].close()
    with sqlite3.connect(os.path.join(folder, FILE)) as db:
        assert db.execute("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM agents)").fetchone() == (0, 0)
    db.close()


def test_a_poll_writes_nothing(folder, clock) -> None:
    store = Store(folder)
    exchange = Exchange(clock, random.Random(1).randbytes, store)
    session_id = exchange.create(Creation(greeting="hi", creator="alice"))["sessionId"]
    written = store._db.total_changes
    exchange.poll(session_id, "alice", members=True)
    exchange.describe(session_id)
    assert store._db.total_changes == written
    exchange.send(session_id, "alice", None, "hello")
    assert store._db.total_changes == written + 1
    store.close()


def test_no_key_and_no_message_is_on_disk(opened, clock, folder) -> None:
    exchange = opened(clock)
    created = exchange.create(Creation(creator="alice"))
    exchange.send(created["sessionId"], "alice", None, "between us")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
        assert created["sessionKey"].encode() not in content
        assert bytes.fromhex(created["sessionKey"]) not in content
        assert b"between us" not in content


def test_the_folder_is_private(opened, clock, folder) -> None:
    before = os.umask(0)
    try:
        opened(clock).create()
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert {stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) for name in os.listdir(folder)} == {0o600}
    finally:
        os.umask(before)


def test_one_relay_a_folder(folder) -> None:
    store = Store(folder)
    with pytest.raises(StoreError) as caught:
        Store(folder)
    assert caught.value.code == "data_dir_in_use"
    store.close()
    Store(folder).close()


def test_a_folder_that_cannot_be_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError) as caught:
        Store(str(tmp_path / "file" / "data"))
    assert caught.value.code == "data_dir_not_writable"


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path) -> None:
    (tmp_path / FILE).write_text("a letter to grandmother, long enough to be no header of sqlite's" * 20)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StoreError) as caught:
        Store(str(tmp_path))
    assert caught.value.code == "data_dir_not_usable"
    assert (tmp_path / FILE).read_bytes() == before


def test_a_later_versions_file_is_refused(tmp_path) -> None:
    db = sqlite3.connect(tmp_path / FILE)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(StoreError) as caught:
        Store(str(tmp_path))
    assert caught.value.code == "data_dir_too_new"
