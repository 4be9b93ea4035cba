"""All sessions of a configuration; nothing here asks a server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
from typing import TYPE_CHECKING

import certifi
import pytest

from nexusd import by_hand
from nexusd.bridge import summary
from nexusd.bridge.supervisor import Supervisor
from nexusd.clientdir import ClientDir
from nexusd.config.load import load
from nexusd.secrets import Secrets
from nexusd.spool import state as states
from nexusd.spool.layout import SessionFolder
from nexusd.wire.budget import Turn
from nexusd.wire.records import Lease
from tests.bridge.world import Log

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

IDS = {name: name * 48 for name in "abcdef"}
SERVER = "http://relay.localhost"


class House:
    """A configuration that a test writes, and the supervisor of it."""

    def __init__(self, home: Path) -> None:
        self.file = home / "config.toml"
        self.root, self.client = home / "nexus", home / "client"
        self.log = Log()
        self.supervisor: Supervisor | None = None

    async def apply(self, *sessions: str, common: str = "", **tables: str) -> Supervisor:
        """Make a configuration with these sessions the one in force; `tables` adds lines to a session's table."""
        self.file.touch(0o600)
        text = f'root = "nexus"\nclient_dir = "client"\nserver = "{SERVER}"\nagent_id = "me"\n{common}\n'
        for name in sessions:
            text += f'[sessions.{name}]\nid = "{IDS[name]}"\n{tables.get(name, "")}\n'
        self.file.write_text(text)
        config = load(str(self.file), {})
        if self.supervisor is None:
            self.supervisor = Supervisor(config, Secrets(), self.log)
        await self.supervisor.apply(config, start=False)
        return self.supervisor


@pytest.fixture
async def house(tmp_path):
    made = House(tmp_path)
    yield made
    if made.supervisor is not None:
        await made.supervisor.close()


async def test_each_session_has_a_runner_and_an_outbox(house):
    supervisor = await house.apply("a", "b")
    assert set(supervisor.runners) == {"a", "b"}
    assert set(supervisor.outboxes) == {str(house.root / name / "outbox") for name in "ab"}
    assert {path.name for path in house.root.glob("*/outbox")} == {"outbox"}
    assert summary.line(supervisor) == "2 sessions, 0 unsent, 2 joining"


async def test_sessions_of_one_server_share_its_budget_and_others_do_not(house):
    supervisor = await house.apply("a", "b", "c", c='server = "http://other.localhost"')
    links = {name: runner.session.link for name, runner in supervisor.runners.items()}
    assert links["a"] is links["b"]
    assert links["a"].budget is not links["c"].budget
    assert set(summary.servers(supervisor)) == {SERVER, "http://other.localhost"}


async def test_one_that_cannot_run_is_blocked_and_said_and_the_others_run(house):
    (house.client / "sessions").mkdir(parents=True)
    folder = SessionFolder(str(house.root), "b")
    folder.make()
    states.save(folder, states.State(version=states.VERSION + 1))
    inbox = SessionFolder(str(house.root), "c")
    inbox.make()
    os.mkfifo(inbox.inbox)
    (house.root / "d").write_text("a file in its place")
    supervisor = await house.apply("a", "b", "c", "d", "e")
    assert set(supervisor.runners) == {"a", "e"}
    assert set(supervisor.blocked) == {"b", "c", "d"}
    assert "newer nexusd" in supervisor.blocked["b"]
    assert len(house.log.named("session.blocked")) == 3
    assert summary.line(supervisor) == "5 sessions, 0 unsent, 3 blocked, 2 joining"
    assert not any(IDS[name] in text for name in "abcde" for text in supervisor.blocked.values())


async def test_one_that_was_mended_runs_with_the_next_configuration(house):
    (house.root).mkdir()
    (house.root / "a").write_text("a file in its place")
    supervisor = await house.apply("a")
    assert set(supervisor.blocked) == {"a"}
    (house.root / "a").unlink()
    await house.apply("a")
    await asyncio.sleep(0.05)  # the loop comes to it
    assert (set(supervisor.blocked), set(supervisor.runners)) == (set(), {"a"})


async def test_one_that_is_taken_out_of_the_configuration_is_not_blocked_any_more(house):
    house.root.mkdir()
    (house.root / "a").write_text("a file in its place")
    supervisor = await house.apply("a", "b")
    await house.apply("b")
    assert supervisor.blocked == {}


async def test_what_did_not_change_is_not_disturbed(house):
    supervisor = await house.apply("a", "b")
    before = dict(supervisor.runners)
    await house.apply("a", "b", "c", b='poll_interval = "10s"')
    assert {name: supervisor.runners[name] for name in "ab"} == before
    assert set(supervisor.runners) == {"a", "b", "c"}
    assert supervisor.runners["b"].session.settings.poll_interval == 10.0
    assert supervisor.runners["a"].session.settings.poll_interval == 30.0


async def test_what_is_taken_out_is_stopped_and_let_go(house):
    supervisor = await house.apply("a", "b")
    await house.apply("b")
    assert set(supervisor.runners) == {"b"}
    assert set(supervisor.outboxes) == {str(house.root / "b" / "outbox")}
    assert '"state":"stopped"' in (house.root / "a" / "session.json").read_text()
    await house.apply("a", "b")
    assert set(supervisor.runners) == {"a", "b"}


@pytest.mark.parametrize("change", ["id", "server"])
async def test_another_session_under_an_old_name_is_another_runner(house, change, monkeypatch):
    supervisor = await house.apply("a")
    before = supervisor.runners["a"]
    if change == "id":
        monkeypatch.setitem(IDS, "a", "x" * 48)
        await house.apply("a")
    else:
        await house.apply("a", a='server = "http://other.localhost"')
    assert supervisor.runners["a"] is not before


async def test_another_limit_counts_from_now_on(house):
    supervisor = await house.apply("a")
    assert supervisor.runners["a"].session.link.budget._rate == 1.5
    await house.apply("a", common="requests_per_minute = 60")
    assert supervisor.runners["a"].session.link.budget._rate == 1.0


async def test_the_server_that_is_recorded_outranks_the_common_one(house):
    ClientDir(str(house.client)).save(IDS["a"], server="http://recorded.localhost/", agent="me")
    supervisor = await house.apply("a", "b")
    assert supervisor.runners["a"].session.link.server == "http://recorded.localhost"
    assert supervisor.runners["b"].session.link.server == SERVER


async def test_a_server_key_that_differs_from_what_is_recorded_is_a_fault_of_that_session(house):
    ClientDir(str(house.client)).save(IDS["a"], server="http://recorded.localhost", agent="me")
    supervisor = await house.apply("a", "b", a='server = "http://other.localhost"')
    assert set(supervisor.runners) == {"b"}
    assert "lives on http://recorded.localhost" in supervisor.blocked["a"]
    await house.apply("a", "b", a='server = "http://recorded.localhost/"')
    assert supervisor.blocked == {}


async def test_a_recorded_server_that_ids_would_go_to_unencrypted_is_not_asked(house):
    ClientDir(str(house.client)).save(IDS["a"], server="http://example.com", agent="me")
    supervisor = await house.apply("a")
    assert "allow_insecure" in supervisor.blocked["a"]


async def test_once_without_a_session_is_done_and_with_one_that_is_blocked_is_not(house):
    supervisor = await house.apply()
    assert await supervisor.once() is True
    house.root.mkdir()
    (house.root / "a").write_text("a file in its place")
    await house.apply("a")
    assert await supervisor.once() is False


async def test_every_id_and_key_is_known_as_a_secret(house):
    ClientDir(str(house.client)).save(IDS["a"], server=SERVER, key="the-key-of-a", agent="me")
    supervisor = await house.apply("a")
    assert supervisor.secrets.removed(f"{IDS['a']} the-key-of-a") == "[secret] [secret]"


async def test_pruning_one_that_cannot_be_pruned_stops_no_other(house, monkeypatch):
    supervisor = await house.apply("a", "b")

    pruned = []

    def fail_once(session) -> int:
        if session.name == "a":
            raise OSError(5, "Input/output error")
        pruned.append(1)
        return 3

    monkeypatch.setattr("nexusd.bridge.supervisor.prune", fail_once)
    await supervisor.prune()
    assert pruned == [1]
    assert [found["session"] for found in house.log.named("prune.failed")] == ["a"]
    assert house.log.named("prune.removed") == [{"session": "b", "files": 3}]


async def test_a_local_record_that_is_gone_sends_no_id_to_another_server(house):
    record = ClientDir(str(house.client))
    record.save(IDS["a"], server="http://recorded.localhost", agent="me")
    supervisor = await house.apply("a")
    await supervisor.close()
    supervisor.root.close()
    (house.client / "sessions" / IDS["a"] / "server").unlink()
    house.supervisor = None
    supervisor = await house.apply("a")
    assert supervisor.runners["a"].session.link.server == "http://recorded.localhost"


async def test_a_client_dir_that_is_not_there_is_waited_for(house):
    record = ClientDir(str(house.client))
    record.save(IDS["a"], server=SERVER, agent="me")
    supervisor = await house.apply("a")
    await supervisor.close()
    supervisor.root.close()
    house.client.rename(house.client.with_name("away"))
    house.supervisor = None
    supervisor = await house.apply("a")
    assert "bring it back" in supervisor.blocked["a"]
    assert not house.client.exists()
    house.client.with_name("away").rename(house.client)
    supervisor.retry()
    await asyncio.sleep(0.05)
    assert set(supervisor.runners) == {"a"}


@pytest.mark.parametrize("begun_without", [None, "root", "client"])
async def test_a_root_and_a_client_dir_that_go_away_together_are_both_waited_for(house, begun_without):
    ClientDir(str(house.client)).save(IDS["a"], server=SERVER, agent="me")
    supervisor = await house.apply("a")
    places = [house.client, house.root]
    if begun_without:
        await supervisor.close()
        supervisor.root.close()
        places.sort(key=lambda place: place == getattr(house, begun_without), reverse=True)
    for place in places:
        place.rename(place.with_name(f"{place.name}-away"))
        if begun_without and place is places[0]:
            house.supervisor = None
            supervisor = await house.apply("a")
        supervisor.look_at_the_root()
        assert ("mount its volume" if house.client.exists() else "bring it back") in supervisor.root_error
        await asyncio.sleep(0.05)
        assert set(supervisor.blocked) == {"a"}
    assert supervisor.root.write_report(b"{}") is not None
    assert not any(place.exists() for place in places)
    house.client.with_name("client-away").rename(house.client)
    supervisor.look_at_the_root()
    assert "mount its volume" in supervisor.root_error
    assert not house.root.exists()
    house.root.with_name("nexus-away").rename(house.root)
    supervisor.look_at_the_root()
    await asyncio.sleep(0.05)
    assert set(supervisor.runners) == {"a"}


async def test_a_renewal_by_hand_for_less_is_seen_in_the_one_session_that_it_concerns(house):
    client_dir = ClientDir(str(house.client))
    for name in "ab":
        client_dir.save(IDS[name], server=SERVER, agent="me", key="a-key-of-mine")
    supervisor = await house.apply("a", "b")
    for runner in supervisor.runners.values():
        runner.session.lifetime.begin(Lease(3660.0, None))
    supervisor.heed_hands()
    by_hand.renewed(client_dir, IDS["a"], 60)
    supervisor.heed_hands()
    left = {name: runner.session.lifetime.remaining for name, runner in supervisor.runners.items()}
    assert 50 < left["a"] <= 60
    assert left["b"] > 3600


async def test_a_pause_of_the_whole_server_is_shown_in_each_of_its_sessions(house):
    supervisor = await house.apply("a", "b", b='server = "http://other.localhost"')
    for runner in supervisor.runners.values():
        runner.session.standing.answered(Turn.POLL)
    (link,) = [link for link in supervisor.links if link.server == SERVER]
    link.budget.pause(200)
    supervisor.look_for_pauses()
    await asyncio.sleep(0.3)
    shown = summary.sessions(supervisor)
    assert (shown["a"]["state"], shown["b"]["state"]) == ("backoff", "active")
    assert "429" in shown["a"]["lastError"]
    view = json.loads((house.root / "a" / "session.json").read_text())
    assert (view["state"], view["lastError"]) == (shown["a"]["state"], shown["a"]["lastError"])
    link.budget._paused_until = 0.0
    supervisor.look_for_pauses()
    await asyncio.sleep(0.3)
    assert json.loads((house.root / "a" / "session.json").read_text())["state"] == "active"


async def test_a_ca_file_that_holds_something_else_is_read_again_and_one_that_is_no_good_is_not(house):
    ca = house.file.parent / "ca.pem"
    shutil.copy(certifi.where(), ca)
    common = 'ca_file = "ca.pem"'
    supervisor = await house.apply("a", common=common)
    link = supervisor.runners["a"].session.link
    await house.apply("a", common=common)
    assert supervisor.runners["a"].session.link is link
    for broken in ("nothing of that kind", None):
        ca.unlink() if broken is None else ca.write_text(broken)
        await house.apply("a", common=common)
        assert supervisor.runners["a"].session.link is link  # what was read of it stays in force
    shutil.copy(certifi.where(), ca)
    await house.apply("a", common=common)
    assert supervisor.runners["a"].session.link is not link
    assert list(supervisor.links) == [supervisor.runners["a"].session.link]


async def test_a_session_whose_file_is_broken_is_served_on_when_servers_are_reached_in_another_way(house):
    supervisor = await house.apply("a", "b")
    before = supervisor.runners["b"].session.link
    config = load(str(house.file), {})
    kept = tuple(session for session in config.sessions if session.name == "a")
    changed = dataclasses.replace(config, sessions=kept, skipped={"b": "broken"}, proxy="http://127.0.0.1:1")
    await supervisor.apply(changed, start=False)
    assert set(supervisor.runners) == {"a", "b"}
    assert supervisor.runners["b"].session.link is supervisor.runners["a"].session.link is not before
