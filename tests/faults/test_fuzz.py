"""Malformed input by the thousand: poll replies, JSON text, dropped files, the ends of inboxes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexusd import jsontext
from nexusd.bridge import outgoing, sift
from nexusd.errors import Refusal, RequestError, UserError
from nexusd.spool import line
from nexusd.spool.inbox import Inbox
from nexusd.spool.layout import SessionFolder
from nexusd.spool.sending import Sending
from nexusd.wire import batch, calls
from nexusd.wire.fate import Answer
from tests.faults.bench import Bench

CALL = calls.poll("5e" * 24, "me")
MANY = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
STAMP = "2030-01-01T00:00:00.000Z"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = ("id", "agentId", "text", "json", "cursor", "verified", "kind", "seq", "session", "server", "receivedAt", "raw")
messages = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), json_values, max_size=8)
good_replies = st.fixed_dictionaries(
    {"messages": st.lists(messages | json_values, max_size=5), "nextCursor": json_values}
)


def mutilated(data: bytes, chance: random.Random) -> bytes:
    """Bytes cut out, doubled, exchanged and put in, as no encoder would."""
    pieces = (
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\x00",
        b"\xff",
        b"\n",
        b"NaN",
        b"1e999",
        b"\\ud800",
        b"-",
    )
    for _ in range(chance.randrange(1, 4)):
        at, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
        end = min(end, at + 12)
        match chance.randrange(4):
            case 0:
                data = data[:at] + data[end:]
            case 1:
                data = data[:end] + data[at:]
            case 2:
                data = data[:at] + chance.choice(pieces) + data[end:]
            case 3:
                data = data[:at]
    return data


def checked(body: bytes, *, cut: bool = False) -> bool:
    """A reply is refused as a whole, or each message becomes one valid line that is read back as ours."""
    try:
        found = batch.read(CALL, Answer(200, body=body, cut=cut))
    except RequestError:
        return False
    cursors = [m.cursor for m in found.messages if m.cursor is not None]
    assert cursors == sorted(cursors)
    known = sift.Known(None, "", frozenset, "me", True, False)
    news = sift.sift(found, known)
    for number, entry in enumerate(news.entries, 1):
        text = line.render(entry, seq=number, session="chat", received_at=STAMP)
        assert text.count(b"\n") == 1
        assert text.endswith(b"\n")
        assert len(text.decode().splitlines()) == 1
        value = json.loads(text)
        assert (value["seq"], value["session"], value["receivedAt"]) == (number, "chat", STAMP)
        assert value["kind"] in ("message", "system")
        parsed = line.parse(text[:-1], "chat")
        assert parsed is not None
        assert parsed.seq == number
        assert line.identity(parsed.fields) == line.identity(entry.fields)
    return True


@MANY
@given(good_replies, st.randoms(use_true_random=False), st.booleans())
def test_case_37_whatever_a_reply_holds_each_message_is_one_valid_line_or_the_whole_is_refused(
    reply, chance, ascii_only
):
    data = json.dumps(reply, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    checked(data)
    for _ in range(3):
        checked(mutilated(data, chance), cut=chance.random() < 0.3)


def mutilated_replies(count, seed):
    """How many of so many could be read all the same."""
    chance = random.Random(seed)
    good = [
        {"id": f"m{n}", "agentId": "bob", "cursor": str(n), "text": 'a "q" \\ \u2028 ' * n, "json": [{"a": [n, {}]}]}
        for n in range(6)
    ]
    data = json.dumps({"messages": good, "nextCursor": "5", "members": [{"agentId": "bob"}]}).encode()
    assert checked(data)
    return sum(checked(mutilated(data, chance), cut=chance.random() < 0.3) for _ in range(count))


def test_case_37_a_thousand_mutilated_replies():
    assert 100 < mutilated_replies(1_000, 37) < 1_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_case_37_a_hundred_thousand_mutilated_replies(tally):
    mutilated_replies(100_000, 38)
    tally("malformed reply", 100_000)


@MANY
@given(st.binary(max_size=80) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_json_text_is_taken_apart_or_refused_and_nothing_else(data):
    for cut in (False, True):
        with contextlib.suppress(ValueError):
            list(jsontext.split(data, cut=cut))
        jsontext.remainder(data, "messages")
    with contextlib.suppress(ValueError):
        for name, value in jsontext.fields(data).items():
            json.loads(value)
            assert jsontext.quoted(name)
    with contextlib.suppress(ValueError):
        jsontext.elements(data)


@MANY
@given(json_values, st.booleans())
def test_what_is_taken_apart_says_what_it_said_before(value, ascii_only):
    value = {"x": value, "": [value]}
    text = json.dumps(value, ensure_ascii=ascii_only)
    with contextlib.suppress(UnicodeEncodeError):
        data = text.encode()
        try:
            found = jsontext.fields(data)
        except ValueError:
            assert "NaN" in text or "Infinity" in text
            return
        assert json.dumps({k: json.loads(v) for k, v in found.items()}) == json.dumps(value)


@MANY
@given(
    st.sampled_from(["a.txt", "a.json", "a.msg.json", "a"]),
    st.binary(max_size=60)
    | json_values.map(lambda v: json.dumps(v).encode())
    | messages.map(lambda v: json.dumps(v).encode()),
    st.randoms(use_true_random=False),
)
def test_case_68_a_dropped_file_is_a_message_that_can_be_sent_or_refused_with_a_reason(name, data, chance):
    refused: list[Refusal] = []
    for body in (data, mutilated(data, chance), b"\xef\xbb\xbf" + data, data[:10] * 3):
        try:
            found = outgoing.read(name, body, 100)
        except Refusal as refusal:
            refused.append(refusal)
            continue
        call = calls.send("s" * 48, "me", None, text=found.text, payload=found.payload)
        said = json.loads(call.body.decode())
        assert said.get("text") or said.get("json") is not None
        assert found.as_text().text
        if not name.endswith(".json"):
            assert found.text.encode() in body
    assert all(refusal.code and refusal.remedy and str(refusal) for refusal in refused)


def inbox_of(folder, count):
    entries = [
        line.message({"id": b'"m"', "cursor": b'"%d"' % n, "text": jsontext.quoted("x" * (n * 7 % 50))}, n, "bob")
        for n in range(1, count + 1)
    ]
    rendered = [line.render(e, seq=n, session="chat", received_at=STAMP) for n, e in enumerate(entries, 1)]
    Inbox(folder, rotate_at=1 << 30).append(rendered, STAMP)
    return rendered


@pytest.mark.parametrize("seed", range(4))
def test_case_02_and_11_whatever_stands_at_the_end_whole_lines_stay_and_the_next_is_a_line_of_its_own(tmp_path, seed):
    chance = random.Random(seed)
    for number in range(150):
        folder = SessionFolder(str(tmp_path / str(number)), "chat")
        folder.make()
        count = chance.randrange(6)
        rendered = inbox_of(folder, count) if count else []
        torn = line.render(
            line.message({"cursor": b'"99"', "text": b'"torn"'}, 99, "bob"), seq=99, session="chat", received_at=STAMP
        )
        tail = chance.choice(
            [
                torn[: chance.randrange(len(torn))],
                bytes(chance.randrange(300)),
                chance.randbytes(chance.randrange(200)),
                b"a reader's own line\n" + torn[: chance.randrange(len(torn))],
                b'{"kind":"message","seq":7,"session":"other"}\n',
                mutilated(torn, chance),
                b"\n" * chance.randrange(4),
            ]
        )
        whole, ours = b"".join(rendered), len(rendered)
        with open(folder.inbox, "ab") as file:
            file.write(tail)
        inbox = Inbox(folder, rotate_at=1 << 30)
        found = inbox.recover(chance.choice([0, ours]), STAMP)
        kept = tail[: tail.rfind(b"\n") + 1]
        lines = [line.parse(text, "chat") for text in kept.split(b"\n")]
        assert found.seq == max([ours, *(parsed.seq for parsed in lines if parsed)])
        new = line.render(
            line.message({"cursor": b'"100"'}, 100, "bob"), seq=found.seq + 1, session="chat", received_at=STAMP
        )
        inbox.append([new], STAMP)
        with open(folder.inbox, "rb") as file:
            data = file.read()
        assert data == whole + kept + new, "a whole line was taken back, or a torn one stayed"


@pytest.mark.parametrize("field", ["cursor", "seq", "highest", "epoch", "whole"])
def test_case_12_a_state_that_is_cut_or_flipped_never_stops_the_start(tmp_path, field):
    chance = random.Random(field)

    async def main() -> None:
        bench = Bench(tmp_path / "home")
        bench.start()
        for n in range(3):
            bench.server.say("bob", f"text {n}")
        await bench.until_done()
        bench.session.close()
        state = bench.folder / ".nexusd" / "state.json"
        good = state.read_bytes()
        odd = good.replace(b'"digest":"', b'"digest":"\xff')
        for _ in range(60):
            broken = (
                mutilated(good, chance)
                if field != "whole"
                else chance.choice([b"", bytes(300), good[:20], b"null", odd])
            )
            state.write_bytes(broken)
            try:
                bench.start()
            except UserError as fault:
                assert fault.code == "newer_state"  # noqa: PT017 - one flip in hundreds makes it one
                continue
            assert not await bench.turn()
            bench.close()
        state.write_bytes(b"")
        bench.start()
        await bench.until_done()
        texts = bench.heard()
        assert [t for n, t in enumerate(texts) if t not in texts[:n]] == [f"text {n}" for n in range(3)]
        bench.close()

    asyncio.run(main())


def test_case_12_an_intent_whose_bytes_are_no_text_is_a_post_in_doubt(tmp_path):
    folder = SessionFolder(str(tmp_path), "chat")
    folder.make()
    sending = Sending(folder)
    (tmp_path / "chat" / "outbox" / "a.txt").write_text("a")
    claimed = sending.claim("a.txt")
    sending.note(claimed)
    intent = next((tmp_path / "chat" / ".nexusd" / "sending").glob("*.json"))
    intent.write_bytes(b'{"sha256":"\xff"}')
    assert sending.pending()[0].intent.doubtful
