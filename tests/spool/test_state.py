"""What is remembered between two lives."""

from __future__ import annotations

import json
import os

import pytest

from nexusd.errors import UserError
from nexusd.spool import state as states
from nexusd.spool.state import State


def write(folder, data: bytes) -> None:
    with open(folder.state, "wb") as file:
        file.write(data)


def test_all_of_it_comes_back(folder):
    state = State(
        digest="d", joined=True, ended="left", seq=9, cursor=10**29, last="x", highest=12, epoch=2, reread=True
    )
    state.echo, state.ttl, state.rejoined_at, state.noticed = False, 61.5, [1.5], ["lapsing"]
    states.save(folder, state)
    assert states.load(folder) == state


def test_not_knowing_whether_there_is_an_echo_is_a_third_answer(folder):
    for echo in (None, True, False):
        states.save(folder, State(echo=echo))
        assert states.load(folder).echo is echo


def test_two_states_share_no_list(folder):
    State().noticed.append("x")
    assert State().noticed == []


def test_none_is_none(folder):
    assert states.load(folder) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"null", b"[]", b'{"seq":"9"}', b"\0" * 200, b'{"seq":9', b"\xff", b'{"seq":1.5}', b"[" * 100_000],
)
def test_one_that_cannot_be_read_is_none_and_no_crash(folder, data):
    write(folder, data)
    assert states.load(folder) is None


@pytest.mark.parametrize("more", [{}, {"seq": "a string by now"}, {"cursor": {"new": "form"}}])
def test_what_a_newer_nexusd_wrote_is_not_overwritten_however_it_looks(folder, more):
    write(folder, json.dumps({"version": states.VERSION + 1, **more}).encode())
    with pytest.raises(UserError) as caught:
        states.load(folder)
    assert caught.value.code == "newer_state"
    assert folder.state in str(caught.value)


def test_a_field_that_only_a_newer_one_knows_is_no_hindrance(folder):
    write(folder, b'{"version":1,"seq":5,"what":"new"}')
    assert states.load(folder).seq == 5


def test_the_digest_tells_sessions_and_servers_apart_and_not_the_id():
    one = states.digest_of("https://a", "s" * 48)
    assert one == states.digest_of("https://a", "s" * 48)
    assert len({one, states.digest_of("https://b", "s" * 48), states.digest_of("https://a", "t" * 48)}) == 3
    assert "s" * 48 not in one


def test_it_is_private(folder):
    states.save(folder, State())
    assert os.stat(folder.state).st_mode & 0o777 == 0o600
