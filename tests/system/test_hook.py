"""on_message: the user's program, run for what is new."""

from __future__ import annotations

import json
import sys

import pytest

from tests.world import until


@pytest.fixture
def hooked(relay, daemons, tmp_path):
    """A daemon whose hook runs the given Python, and a peer that can speak to it."""

    def make(code: str, settings: str = ""):
        script = tmp_path / "hook.py"
        script.write_text(code)
        bob = daemons("bob", relay.url, f'on_message = ["{sys.executable}", "{script}"]\n{settings}')
        link = bob.add("chat", "--create")["code"]
        joined = relay.ask("POST", f"/v1/pair/{link}/claim", "alice", json={}).json()
        bob.start()

        def say(text: str) -> None:
            relay.say(joined["sessionId"], "alice", joined["sessionKey"], text)

        return bob, say

    return make


SEEN = """
import json, os, sys
lines = [json.loads(line) for line in sys.stdin]
with open("seen.jsonl", "a") as file:
    for line in lines:
        named = [os.environ["NEXUS_SESSION"], os.environ["NEXUS_COUNT"]]
        file.write(json.dumps([line["seq"], line["text"], *named]) + chr(10))
"""


def seen(daemon):
    path = daemon.folder("chat") / "seen.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_hook_gets_the_lines_on_stdin_and_names_in_its_environment(hooked):
    bob, say = hooked(SEEN)
    say("hello $(touch owned) ; --option")
    until(lambda: seen(bob) == [[1, "hello $(touch owned) ; --option", "chat", "1"]])


def test_what_arrives_while_it_runs_goes_into_the_next_run_together(hooked):
    wait = 'import os, time\nwhile not os.path.exists("go"): time.sleep(0.01)\n'
    bob, say = hooked(wait + SEEN)
    say("one")
    until(lambda: bob.texts("chat") == ["one"])
    say("two")
    say("three")
    until(lambda: bob.texts("chat") == ["one", "two", "three"])
    (bob.folder("chat") / "go").touch()
    until(lambda: len(seen(bob)) == 3)
    assert [(seq, count) for seq, _, _, count in seen(bob)] == [(1, "1"), (2, "2"), (3, "2")]


def test_a_failing_hook_is_tried_again_and_never_holds_the_inbox_up(hooked):
    bob, say = hooked('import os, sys\nif not os.path.exists("go"): sys.exit("no")\n' + SEEN)
    say("one")
    until(lambda: [e for e in bob.events() if e["event"] == "hook.failed" and "ended with 1" in e["why"]])
    say("two")
    until(lambda: bob.texts("chat") == ["one", "two"])
    (bob.folder("chat") / "go").touch()
    until(lambda: [line[1] for line in seen(bob)] == ["one", "two"])
    assert [e for e in bob.events() if e["event"] == "hook.output" and e["text"] == "no"]


def test_a_hook_that_hangs_is_ended_with_all_its_children(hooked):
    bob, say = hooked(
        "import os, subprocess, time\n"
        'open("pid", "w").write(str(subprocess.Popen(["sleep", "1000"]).pid))\n'
        "time.sleep(1000)\n",
        'hook_timeout = "1s"',
    )
    say("one")
    until(lambda: [e for e in bob.events() if e["event"] == "hook.failed" and "hook_timeout" in e["why"]])
    pid = (bob.folder("chat") / "pid").read_text()
    until(lambda: not _alive(pid))


def _alive(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_hook_that_floods_its_output_is_logged_in_part(hooked):
    bob, say = hooked('print("x" * 5_000_000)\n' + SEEN)
    say("one")
    until(lambda: seen(bob))
    text = until(lambda: [e["text"] for e in bob.events() if e["event"] == "hook.output"])[0]
    assert 1_000 < len(text) < 10_000


def test_a_hook_runs_again_for_what_it_had_not_finished_when_the_daemon_was_killed(hooked):
    bob, say = hooked('import os, time\nopen("begun", "w")\nwhile not os.path.exists("go"): time.sleep(0.01)\n' + SEEN)
    say("one")
    until((bob.folder("chat") / "begun").exists)
    bob.kill()
    (bob.folder("chat") / "go").touch()
    bob.start()
    until(lambda: [1, "one", "chat", "1"] in seen(bob))


def test_a_hook_that_cannot_be_run_is_said(relay, daemons):
    bob = daemons("bob", relay.url, 'on_message = ["/nonexistent/program"]')
    code = bob.add("chat", "--create")["code"]
    joined = relay.ask("POST", f"/v1/pair/{code}/claim", "alice", json={}).json()
    bob.start()
    relay.say(joined["sessionId"], "alice", joined["sessionKey"], "one")
    until(lambda: [e for e in bob.events() if e["event"] == "hook.failed" and "/nonexistent/program" in e["why"]])
    assert bob.texts("chat") == ["one"]


def test_a_new_hook_is_not_shown_the_past(relay, daemons, tmp_path):
    script = tmp_path / "hook.py"
    script.write_text(SEEN)
    bob = daemons("bob", relay.url)
    code = bob.add("chat", "--create")["code"]
    joined = relay.ask("POST", f"/v1/pair/{code}/claim", "alice", json={}).json()
    bob.start()
    relay.say(joined["sessionId"], "alice", joined["sessionKey"], "before")
    until(lambda: bob.texts("chat") == ["before"])
    bob.configure(extra=f'on_message = ["{sys.executable}", "{script}"]')
    until(lambda: [e for e in bob.events() if e["event"] == "config.reloaded"])
    relay.say(joined["sessionId"], "alice", joined["sessionKey"], "after")
    until(lambda: [line[1] for line in seen(bob)] == ["after"])
