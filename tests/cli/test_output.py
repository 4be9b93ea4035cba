from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from nexusd.cli import output
from nexusd.errors import Fate, RequestError, RootLocked, UserError


@pytest.fixture
def streams(capsysbinary):
    return lambda: tuple(text.decode() for text in capsysbinary.readouterr())


@pytest.mark.parametrize(
    "value", ["ä漢字🙂", "\x1b[2J", "\u202e", "\u2028", "\ud800", "\U000e0041", "\x7f", "\xa0", 'q"\\', "\n\t"]
)
def test_a_document_is_one_printable_line_that_reads_back_as_it_was(streams, value):
    output.document({"a": value})
    out, _ = streams()
    assert out.endswith("}\n")
    assert out[:-1].isprintable()
    assert json.loads(out) == {"a": value}


def test_json_text_passes_as_it_is_on_one_line(streams):
    output.document('{"n": 1.10,\r\n\t"big": 12345678901234567890123}')
    assert streams()[0] == '{"n": 1.10,   "big": 12345678901234567890123}\n'


def test_letters_stay_readable(streams):
    output.document({"a": "ä漢"})
    assert streams()[0] == '{"a":"ä漢"}\n'


def test_a_sentence_cannot_move_the_cursor(streams):
    output.say("a\x1b[2J\nb\r")
    assert streams()[1] == "a\ufffd[2J\nb\ufffd\n"


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (UserError("bad_x", "do y"), 1, {"error": "bad_x", "message": "do y"}),
        (UserError("usage", "see z", exit_status=2), 2, {"error": "usage", "message": "see z"}),
        (RootLocked("pid 7 holds it"), 75, {"error": "root_locked", "message": "pid 7 holds it"}),
        (
            RequestError(Fate.REFUSED, "forbidden", "no", status=403, body={"error": "forbidden", "extra": 1}),
            1,
            {"error": "forbidden", "extra": 1},
        ),
        (
            RequestError(Fate.NOT_SENT, "server_unreachable", "refused"),
            1,
            {"error": "server_unreachable", "message": "refused"},
        ),
        (
            PermissionError(13, "Permission denied", "/home/x/sessions/secret/key"),
            1,
            {"error": "local_files", "message": "/home/x/sessions/.../key: Permission denied"},
        ),
        (OSError("odd"), 1, {"error": "local_files", "message": "odd"}),
    ],
)
def test_every_error_is_a_document_a_sentence_and_a_status(streams, fault, status, said):
    def main() -> int:
        raise fault

    assert output.run(main) == status
    out, err = streams()
    assert json.loads(out) == said
    assert err.startswith("nexus: ")


def test_ctrl_c_is_130_without_a_word(streams):
    def main() -> int:
        raise KeyboardInterrupt

    assert output.run(main) == 130
    assert streams() == ("", "")


def test_what_stands_behind_a_yield_waits_for_the_reader(streams):
    done = []

    def verb():
        yield {"n": 1}
        done.append(streams()[0])
        yield "[2]"
        return 3

    assert output.show(verb()) == 3
    assert done == ['{"n":1}\n']


def test_what_stands_behind_a_yield_is_not_done_when_the_pipe_breaks(streams, monkeypatch):
    done = []

    def verb():
        yield {"n": 1}
        done.append("moved")

    def broken(_) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(output, "document", broken)
    with pytest.raises(BrokenPipeError):
        output.show(verb())
    assert done == []


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [f"nexus {word}" for word in ("ls", "--help", "no-such")] + ["nexusd check"])
def test_closed_standard_streams_are_no_fault(tmp_path, words, closed):
    program, _, rest = words.partition(" ")
    environ = {**os.environ, "HOME": str(tmp_path), "NEXUS_CLIENT_DIR": "", "XDG_CONFIG_HOME": ""}
    whole = subprocess.run(
        [sys.executable, "-m", f"nexusd.cli.{program}", rest], env=environ, capture_output=True, check=False
    )
    line = f"{sys.executable} -m nexusd.cli.{program} {rest} {closed}"
    ran = subprocess.run(["/bin/sh", "-c", line], env=environ, capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert ran.returncode == whole.returncode
