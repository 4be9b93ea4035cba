"""nexusd top: what it shows, as pure lines; how it moves; and the program on a terminal of ours."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import unicodedata
from fcntl import ioctl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexusd.cli.columns import columns, cut, fitted, plain, wrapped
from nexusd.cli.service import top_lines, top_opened
from nexusd.cli.service.overview import age
from nexusd.cli.service.top_cells import Shown, painted
from nexusd.cli.service.top_place import Place, keys, moved, settled
from nexusd.cli.service.top_seen import Eyes
from tests.world import NEXUSD, PATIENCE, until

NOW = 1_800_000_000.0
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b1;1H\r\n\t\u202e\u200b\U000e0041\ud800 日本語 e\u0301 👩\u200d💻"
START = Place()
SGR = re.compile(r"\x1b\[[0-9]*m")


def session(name: str, **more):
    view = {"session": name, "state": "active", "folder": f"/nexus/{name}", "unsent": 0, "failed": 0, "expiresIn": 3599}
    return view | {"agentId": "me", "server": "https://m.example", "members": [{"agentId": "peer"}]} | more


def line(seq: int = 1, text: str = "hello", **more):
    return {"kind": "message", "seq": seq, "agentId": "peer", "verified": True, "text": text, "receivedAt": "x"} | more


def shown(*sessions, last=None, lines=(), troubles=(), running=True, servers=None, rate=None):
    daemon = {"running": running, "stuck": False, "pid": 7, "since": "2026-01-01T00:00:00Z"}
    seen = {"daemon": daemon, "sessions": list(sessions), "root": "/nexus", "servers": servers or {}}
    return Shown(seen, last or {}, lines, troubles, rate or {}, NOW, age)


def texts(view: Shown, place: Place = START, width: int = 80, height: int = 24) -> list[str]:
    place = settled(place, [s["session"] for s in view.seen["sessions"]], top_lines.room(height))
    return [row.text for row in top_lines.rows(view, place, width, height)]


# ---- rendering


def test_a_line_for_each_session_says_all_that_matters():
    view = shown(
        session("alpha", unsent=2, failed=1, sent=30),
        session("beta", state="backoff", expiresIn=-5),
        last={"alpha": line(17, "how are you?")},
    )
    found = texts(view, width=100)
    assert "1 of 2 active | 2 unsent, 1 failed" in found[0]
    assert found[2].split() == ["SESSION", "STATE", "EXPIRES", "UNSENT", "FAIL", "IN", "OUT", "LAST", "MESSAGE"]
    assert found[3].split() == [">alpha", "active", "59:59", "2", "1", "17", "30", "?", "peer:", "how", "are", "you?"]
    assert found[4].split() == ["beta", "backoff", "over"]


@pytest.mark.parametrize(
    ("left", "said"), [(None, "-"), (0, "over"), (59, "0:59"), (3660, "61:00"), (86_400, "24h00m")]
)
def test_the_countdown(left, said):
    assert said in texts(shown(session("a", expiresIn=left)))[3].split()


@pytest.mark.parametrize("width", [1, 2, 20, 40, 79, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 10, 24, 60])
@pytest.mark.parametrize("opened", [None, "s-001"])
def test_every_size_is_filled_exactly_and_never_overrun(width, height, opened):
    sessions = [session(f"s-{n:03}", lastError=HOSTILE) for n in range(500)]
    view = shown(*sessions, last={"s-001": line(1, HOSTILE)}, lines=[line(n, HOSTILE * 20) for n in range(50)])
    found = texts(view, Place(marked="s-001", opened=opened), width, height)
    assert len(found) == height
    assert all(columns(text) <= width for text in found)


def test_at_20_columns_name_and_state_remain():
    found = texts(shown(session("a-rather-long-name"), session("b", state="expired")), width=20, height=10)
    assert found[3].startswith(">a-rathe")
    assert "active" in found[3]
    assert "expired" in found[4]


def test_what_a_peer_writes_can_only_be_letters():
    hostile = session(
        "a",
        lastError=HOSTILE,
        agentId=HOSTILE,
        server=HOSTILE,
        members=[{"agentId": HOSTILE}, HOSTILE, 7, None],
    )
    wrote = [line(1, HOSTILE), line(2, agentId=HOSTILE), line(3, json={HOSTILE: HOSTILE}), line(4, kind=HOSTILE)]
    wrote += [
        line(5, kind="notice", notice=HOSTILE),
        line(6, text=7),
        line(7, raw=HOSTILE),
        line(8, receivedAt=HOSTILE),
    ]
    view = shown(hostile, last={"a": wrote[1]}, lines=wrote, troubles=[HOSTILE], servers={f"x://{HOSTILE}": {}})
    for place in (Place(), Place(opened="a", marked="a")):
        for now in (0.0, 4.0):
            for row in top_lines.rows(view._replace(now=now), settled(place, ["a"], 20), 120, 60):
                bare = SGR.sub("", painted(row, colour=True))
                assert bare == row.text
                assert bare.isprintable(), bare
                assert not {"\u202e", "\u200b", "\ud800"} & set(bare)


@given(st.text(), st.integers(1, 40))
@example("00000\xa00", 2)
def test_text_is_cut_to_columns_and_wrapped_without_losing_any(text, width):
    safe = plain(text)
    assert not {unicodedata.category(char) for char in safe} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert columns(cut(safe, width)) <= width
    assert columns(fitted(safe, width)) == width
    if width > 1:
        lines = wrapped(safe, width, 10_000)
        assert all(columns(one) <= width for one in lines)
        assert "".join(lines).replace(" ", "") == safe.replace(" ", "")


def test_wide_letters_count_twice_and_accents_not_at_all():
    assert (columns("日本語"), columns("e\u0301"), columns("abc")) == (6, 1, 3)
    assert cut("日本語", 5) == "日本~"
    assert fitted("日", 4, right=True) == "  日"


def test_without_colour_only_the_mark_is_painted():
    rows = top_lines.rows(shown(session("a"), session("b", state="expired")), Place("a"), 80, 24)
    assert [painted(row, colour=False) for row in rows if "\x1b" in painted(row, colour=False)] == [
        f"\x1b[7m{rows[3].text}\x1b[0m"
    ]
    assert sum("\x1b" in painted(row, colour=True) for row in rows) > 3


def test_without_sessions_and_without_a_daemon_it_says_what_to_do():
    assert any("nexusd add" in text for text in texts(shown()))
    assert "NOT RUNNING" in texts(shown(session("a"), running=False))[0]


def test_troubles_and_requests_take_turns():
    view = shown(
        session("a"),
        troubles=["a: in trouble", "more"],
        servers={"https://m": {"pausedFor": 12}},
        rate={"https://m": 7.4},
    )
    assert texts(view._replace(now=0.0))[1] == "a: in trouble (and 1 more)"
    assert texts(view._replace(now=4.0))[1] == "requests: m 7/min, paused for 12 s"


def test_an_opened_session_shows_its_last_lines_and_scrolls_back():
    view = shown(session("a"), lines=[line(n, f"text {n}") for n in range(1, 101)])
    found = texts(view, Place("a", opened="a"))
    assert "a: active" in found[0]
    assert found[-2] == "  text 100"
    assert texts(view, Place("a", opened="a", below=2))[-2] == "  text 99"
    assert "  text 1" in texts(view, Place("a", opened="a", below=10**6))
    assert top_opened.furthest(view, 80) == 199


# ---- moving


def test_keys_are_read_from_what_a_terminal_sends():
    assert keys(b"jk\x1b[A\x1bOB\x1b[5~\r\x1b[1;5Cxq") == ["down", "up", "up", "down", "page up", "open", "quit"]
    assert keys(b"\x1b") == ["back"]
    assert keys(b"\x1b\x1b[B") == ["back", "down"]
    assert keys(b"\x1b[200~\xff\x00") == []


@given(st.binary(max_size=40))
def test_no_bytes_are_too_strange_for_keys(data):
    assert all(isinstance(key, str) for key in keys(data))


def walk(place: Place, pressed: list[str], names, room) -> Place:
    for key in pressed:
        place = moved(place, key, names, room)
    return place


def test_moving_scrolls_through_500_sessions():
    names = [f"s-{n:03}" for n in range(500)]
    place = walk(settled(Place(), names, 20), ["down"] * 25, names, 20)
    assert (place.marked, place.first) == ("s-025", 6)
    assert walk(place, ["last"], names, 20) == Place("s-499", 480)
    assert walk(place, ["last", "down", "page up"], names, 20).marked == "s-480"
    assert walk(place, ["first", "up"], names, 20) == Place("s-000", 0)
    assert moved(place, "quit", names, 20) is None


def test_open_and_back():
    names = ["a", "b"]
    place = walk(settled(Place(), names, 5), ["down", "open", "up", "up", "down"], names, 5)
    assert place == Place("b", 0, "b", 1)
    assert walk(place, ["back"], names, 5) == Place("b")
    assert moved(Place(), "open", [], 5) == Place()


def test_the_mark_stays_when_sessions_come_and_go():
    assert settled(Place("b", 0), ["a", "aa", "b"], 2) == Place("b", 1)
    assert settled(Place("b", opened="b"), ["a", "c"], 2) == Place("c", 0)
    assert settled(Place("z", 5), ["a"], 2) == Place("a", 0)
    assert settled(Place("z", 5, "z"), [], 2) == Place()


# ---- looking


def test_it_looks_at_files_only_and_counts_requests(tmp_path, monkeypatch):
    config = tmp_path / "config.toml"
    config.write_text('root = "nexus"\n')
    root = tmp_path / "nexus"
    for name in ("b", "a"):
        (root / name / ".nexusd" / "sending").mkdir(parents=True)
        (root / name / "sent").mkdir()
        (root / name / "sent" / "x.txt").touch()
        (root / name / "sent" / "x.txt.receipt.json").touch()
        (root / name / "session.json").write_text(json.dumps({"state": "active"}))
        (root / name / "inbox.jsonl").write_text("".join(json.dumps(line(n, session=name)) + "\n" for n in (1, 2)))
        (tmp_path / "sessions.d").mkdir(exist_ok=True)
        (tmp_path / "sessions.d" / f"{name}.toml").write_text(f'id = "{name * 48}"\n')
        os.chmod(tmp_path / "sessions.d" / f"{name}.toml", 0o600)
    eyes = Eyes(str(config))
    eyes.look()
    assert eyes.names == ["a", "b"]
    view = eyes.shown(Place("a", opened="b"), 20)
    assert (view.last["a"]["seq"], [one["seq"] for one in view.lines]) == (2, [1, 2])
    assert view.seen["sessions"][0]["sent"] == 1
    assert not view.seen["daemon"]["running"]


# ---- the program


class Terminal:
    """nexusd top on a terminal of ours."""

    def __init__(self, config, *prefix: str, **env: str) -> None:
        self.outer, inner = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(inner)
        self.inner = inner
        # With --ctty it is this process's terminal, as for a person.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *prefix, *NEXUSD, "top", "--config", str(config)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TERM": "xterm", **env},
        )
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        ioctl(self.outer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> None:
        while select.select([self.outer], [], [], 0.05)[0]:
            try:
                data = os.read(self.outer, 65_536)
            except OSError:
                return
            self.seen += data.decode(errors="replace")

    def until(self, text: str) -> None:
        def found() -> bool:
            self.read()
            return text in self.seen

        until(found, f"{text!r} was not shown, but {self.seen[-2000:]!r}")

    def press(self, keys: str) -> None:
        self.seen = ""
        os.write(self.outer, keys.encode())

    def ended(self) -> int:
        status = self.process.wait(PATIENCE)
        self.read()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.outer)
        os.close(self.inner)


@pytest.fixture
def terminal(pair):
    alice, bob = pair
    bob.drop("chat", "hello.txt", "hello \x1b]0;owned\x07 alice")
    until(lambda: alice.texts("chat"))
    made = Terminal(alice.config)
    made.until("hello")
    yield made
    made.close()


def test_it_shows_opens_goes_back_and_quits(terminal):
    assert "\x1b]0;" not in terminal.seen
    terminal.press("\r")
    terminal.until("we are alice on ")
    terminal.press("\x1b")
    terminal.until("SESSION")
    terminal.press("q")
    assert terminal.ended() == 0
    assert_given_back(terminal)


def assert_given_back(terminal: Terminal) -> None:
    assert terminal.seen.endswith("\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l")
    assert termios.tcgetattr(terminal.inner) == terminal.before


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)], ids=lambda n: str(int(n))
)
def test_the_terminal_is_given_back_on_a_signal(terminal, number, status):
    terminal.process.send_signal(number)
    assert terminal.ended() == status
    assert_given_back(terminal)


def test_ctrl_c_ends_it_as_typed(terminal):
    terminal.press("\x03")
    assert terminal.ended() == 0
    assert_given_back(terminal)


def test_it_is_drawn_anew_for_another_size(terminal):
    terminal.seen = ""
    terminal.resize(20, 8)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.until("\x1b[8;1H\x1b[2K")
    terminal.press("q")
    assert terminal.ended() == 0


def test_it_stops_for_ctrl_z_and_goes_on(pair):
    alice, _ = pair
    # Nobody could wake it without a shell, so it would not stop.
    terminal = Terminal(alice.config, "bash", "-c", 'set -m; "$@"; echo "it has STOPPED"; read; fg', "bash")
    try:
        terminal.until("SESSION")
        terminal.press("\x1a")
        terminal.until("it has STOPPED")
        assert "\x1b[?1049l" in terminal.seen.partition("STOPPED")[0]
        terminal.press("\n")
        terminal.until("SESSION")
        terminal.press("q")
        assert terminal.ended() == 0
        assert "\x1b[?1049l" in terminal.seen
    finally:
        terminal.close()


def test_without_colour_there_is_none(pair):
    alice, _ = pair
    terminal = Terminal(alice.config, NO_COLOR="1")
    try:
        terminal.until("SESSION")
        assert set(SGR.findall(terminal.seen)) <= {"\x1b[7m", "\x1b[0m", "\x1b[m"}
        terminal.press("q")
        assert terminal.ended() == 0
    finally:
        terminal.close()


def test_where_there_is_no_terminal_it_says_what_to_use(tmp_path):
    ran = subprocess.run([*NEXUSD, "top"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (1, "no_terminal")
    assert "nexusd status" in ran.stderr
