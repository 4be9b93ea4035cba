"""A pytest plugin that takes one mend out of the program: python -m pytest -p tests.faults.without --without MEND TEST.

Each row says which mend, and which tests must fail without it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# ruff: noqa: PLC0415 - each mend imports what it takes out


class Mend(NamedTuple):
    take_out: Callable[[], None]
    test: str  # a path, and behind :: the beginning of the names of the tests that must fail


def _replace(where: str, name: str, value: Any) -> None:
    setattr(owner(where, name), name, value)


def owner(where: str, name: str) -> Any:
    """What has that name now; what has it no longer cannot be taken out, and would be taken for tests that fail."""
    from importlib import import_module

    module, _, owner = where.partition(":")
    found = getattr(import_module(module), owner) if owner else import_module(module)
    getattr(found, name)
    return found


def _replaced(where: str, name: str, value: Any) -> Callable[[], None]:
    return functools.partial(_replace, where, name, value)


def _any_code_counts() -> None:
    from nexusd.bridge import membership
    from nexusd.wire import fate

    class Everything(frozenset):
        def __contains__(self, _: object) -> bool:
            return True

    fate._FINAL.update(dict.fromkeys((400, 401, 403, 404, 409, 422), Everything()))
    membership.MEMBERSHIP_CODES = Everything()


def _not_confirmed() -> None:
    from nexusd.bridge import membership

    async def put_out(session, fault, lane):
        return await membership._rejoin(session, fault, lane)

    membership._put_out = put_out


def _settle_from_the_start() -> None:
    from nexusd.bridge.delivery import Delivery

    real = Delivery._failed

    async def failed(self, fault, doubtful):
        try:
            await real(self, fault, doubtful)
        finally:
            self._ended_at -= 30.0

    Delivery._failed = failed


def _everybody_pauses() -> None:
    from nexusd.bridge.link import Link

    real = Link.limited
    Link.limited = lambda self, session, fault, everybody: real(self, session, fault, everybody=True)


def _blocked_is_backoff() -> None:
    from nexusd.bridge.states import TABLE, Event, Status

    for state, event in TABLE:
        if event is Event.BLOCKED and TABLE[state, event] is Status.BLOCKED:
            TABLE[state, event] = Status.BACKOFF


def _opened_once() -> None:
    from nexusd.bridge.life import Life

    real = Life._fault

    def fault(self, fault):
        real(self, fault)
        return 1e9

    Life._fault = fault


def _lease_by_expires_at() -> None:
    from nexusd.bridge.lifetime import Lifetime

    def begin(self, lease, *, otherwise=None):
        remaining = self._link.client.remaining(lease)
        self._journal.state.ttl = lease.ttl or self._journal.state.ttl
        self._set(remaining if remaining is not None else otherwise or 60.0)

    Lifetime.begin = begin


async def _nothing(*_: Any, **__: Any) -> None:
    return None


async def _yes(*_: Any, **__: Any) -> bool:
    return True


BRIDGE = "tests/bridge"
MENDS = {
    "103 nothing waits for /health": Mend(
        _replaced("nexusd.bridge.link", "PATIENCE", 1e9), f"{BRIDGE}/test_link.py::test_case_103_nothing_waits"
    ),
    "104 settle counts from the end": Mend(_settle_from_the_start, f"{BRIDGE}/test_delivery.py::test_case_104_a_send"),
    "105 absence needs another message of ours": Mend(
        _replaced("nexusd.bridge.witness", "proves_absence", lambda *_, **__: True),
        f"{BRIDGE}/test_delivery.py::test_case_105_a_server_that_stops",
    ),
    "106 only the protocol's codes count": Mend(_any_code_counts, "tests/wire/test_fate.py::test_case_106"),
    "106 the session itself confirms": Mend(_not_confirmed, f"{BRIDGE}/test_entry.py::test_case_106_a_gateway_costs"),
    "107 ten minutes for foreign words": Mend(
        _replaced("nexusd.bridge.give_up", "FOREIGN", 0.0), f"{BRIDGE}/test_give_up.py::test_case_107_a_refusal"
    ),
    "108 given up whatever the reason": Mend(
        _replaced("nexusd.bridge.give_up", "overdue", lambda *_: None), f"{BRIDGE}/test_give_up.py::test_case_108_what"
    ),
    "108 posts back off": Mend(
        _replaced("nexusd.bridge.delivery", "LONGEST", 0), f"{BRIDGE}/test_give_up.py::test_case_108_posts"
    ),
    "109 a refused ttl is not insisted on": Mend(
        _replaced("nexusd.bridge.renewer:Renewer", "_ttl", lambda self: int(self._session.settings.ttl)),
        f"{BRIDGE}/test_lifetime.py::test_case_109_a_time",
    ),
    "110 at least the ttl, and not too soon": Mend(
        lambda: (_lease_by_expires_at(), _replaced("nexusd.bridge.renewer", "not_before", lambda *_: 0.0)()),
        f"{BRIDGE}/test_lifetime.py::test_case_110_a_clock",
    ),
    "111 a 429 is one session's": Mend(_everybody_pauses, f"{BRIDGE}/test_link.py::test_case_111_a_send"),
    "113 the join's intent": Mend(
        _replaced("nexusd.bridge.entry", "joining", lambda _: lambda _: None),
        f"{BRIDGE}/test_entry.py::test_case_113_a_join",
    ),
    "118 a new connection is a hint": Mend(
        _replaced("nexusd.bridge.link:Link", "look_for_a_restart", _nothing),
        f"{BRIDGE}/test_poller.py::test_case_118_a_server",
    ),
    "119a three looks": Mend(
        _replaced("nexusd.bridge.expiry", "_is_gone", _yes), f"{BRIDGE}/test_membership.py::test_case_119a_a_session"
    ),
    "120 opened for as long as it is configured": Mend(_opened_once, f"{BRIDGE}/test_life.py::test_case_120_what"),
    "121 the root is recognised": Mend(
        _replaced("nexusd.root", "recognise", lambda *_: None), f"{BRIDGE}/test_life.py::test_case_121_a_root"
    ),
    "121 the folder is looked at before a write": Mend(
        _replaced("nexusd.bridge.journal:Journal", "check", lambda _: None),
        f"{BRIDGE}/test_life.py::test_case_121_a_session_folder",
    ),
    "129 no file blocks a queue": Mend(
        _replaced("nexusd.bridge.give_up", "TRIES", 1_000_000), f"{BRIDGE}/test_give_up.py::test_case_129_a_file_that"
    ),
    "167 blocked is a state of its own": Mend(_blocked_is_backoff, f"{BRIDGE}/test_entry.py::test_case_114"),
    "189 a date may be unknown": Mend(
        _replaced("nexusd.timestamps", "known", lambda at: at), "tests/test_timestamps.py::test_case_189"
    ),
    "a client_dir that is away is no leave": Mend(
        _replaced("nexusd.bridge.membership", "recorded_agent", lambda session: session.client_dir.agent(session.id)),
        f"{BRIDGE}/test_entry.py::test_a_client_dir_that_is_away",
    ),
    "a root and a client_dir that go together": Mend(
        _replaced("nexusd.clientdir:ClientDir", "is_there", lambda _: True),
        f"{BRIDGE}/test_supervisor.py::test_a_root_and_a_client_dir",
    ),
    "a folder that is made later is watched": Mend(
        _replaced("nexusd.bridge.watcher:Watcher", "look_for_missing", lambda _: None),
        f"{BRIDGE}/test_watcher.py::test_a_folder_that_is_made_later",
    ),
}


def pytest_addoption(parser) -> None:
    parser.addoption("--without", choices=sorted(MENDS), help="take this mend out")


def pytest_configure(config) -> None:
    if config.getoption("--without"):
        MENDS[config.getoption("--without")].take_out()
