"""nexusd add: what it refuses before it asks, what it keeps, and what it tells whatever fails afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.world import NEXUS, NEXUSD, until

FIRST, SECOND = "5e" * 24, "6f" * 24
CODE = "ABLE-ACORN-34679"


class Server:
    """Answers claims, joins, creations, looks and pairings; `before` runs when the request has come."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.claims = SECOND
        self.fails: dict[str, tuple[int, dict]] = {}
        self.before = lambda: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path, self.headers.get("X-Agent-Id")))
                outer.before()
                status, body = outer.answer(self.command, self.path)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server looks for these names

            def log_message(self, *args) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, method: str, path: str) -> tuple[int, dict]:
        what = {"claim": "claim", "join": "join", "pair": "pair", "sessions": "create"}.get(
            path.rpartition("/")[2], method
        )
        if what in self.fails:
            return self.fails[what]
        return {
            "claim": (200, {"sessionId": self.claims, "status": "claimed", "sessionKey": "key-of-the-claim"}),
            "join": (200, {"status": "joined", "agentsOnline": 1, "sessionKey": "key-of-the-join"}),
            "create": (201, {"sessionId": self.claims, "ttl": 60, "maxAgents": 2, "sessionKey": "key-of-the-maker"}),
            "pair": (201, {"code": CODE, "url": f"{self.url}/p/{CODE}", "expiresAt": "2030-01-01T00:00:00Z"}),
            "GET": (200, {"sessionId": self.claims, "state": "active", "agents": [], "ttl": 60, "maxAgents": 2}),
            "DELETE": (200, {"ok": True}),
        }[what]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def me(daemons, server):
    return daemons("me", server.url)


def add(daemon, *words, stdin=None, hidden=(FIRST, SECOND, "key-of"), **more):
    """Run it; the exit status, the document and stderr. No id and no key is in them but where a test says so."""
    ran = subprocess.run(
        [*NEXUSD, "add", *words, "--config", str(daemon.config)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **more,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    for secret in hidden:
        assert secret not in ran.stdout + ran.stderr
    assert FIRST not in ran.stderr
    assert SECOND not in ran.stderr
    return ran.returncode, json.loads(ran.stdout), ran.stderr


def nexus(daemon, *words):
    environ = {**os.environ, "NEXUS_CLIENT_DIR": str(daemon.client_dir), "NEXUSD_CONFIG": str(daemon.config)}
    ran = subprocess.run([*NEXUS, *words], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def everything(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def aliases(daemon) -> dict[str, str]:
    return json.loads((daemon.client_dir / "aliases.json").read_text())


# ---- case 142: a session that is ours already


def test_case_142_a_code_for_a_session_that_is_served_is_refused_and_nothing_of_the_first_is_touched(me, server):
    assert add(me, "first", "--code", CODE, "--agent-id", "one")[0] == 0
    before = everything(me.home)
    status, said, err = add(me, "me", "--code", CODE, "--agent-id", "two")
    assert (status, said["error"], said["servedAs"], said["agentId"]) == (1, "session_known", "first", "two")
    assert "served already, under the name first" in err
    assert everything(me.home) == before
    # The second agent takes nobody's place: it was taken out again.
    assert said["left"] is True
    assert server.asked[-1] == ("DELETE", f"/v1/sessions/{SECOND}/agents/two", "two")
    assert me.command("check").returncode == 0


def test_case_142_where_the_second_agent_cannot_be_taken_out_again_its_key_is_told_on_stdout(me, server):
    add(me, "first", "--code", CODE, "--agent-id", "one")
    before = everything(me.home)
    server.fails["DELETE"] = (500, {"error": "internal_error", "message": "oops"})
    status, said, err = add(me, "me", "--code", CODE, "--agent-id", "two", hidden=(FIRST, SECOND))
    assert (status, said["error"], said["left"], said["sessionKey"]) == (1, "session_known", False, "key-of-the-claim")
    assert "key-of" not in err
    assert everything(me.home) == before


def test_case_142_a_session_that_another_agent_of_ours_is_in_by_hand_keeps_its_record_too(me):
    environ = {**os.environ, "NEXUS_CLIENT_DIR": str(me.client_dir), "NEXUS_URL": me.server}
    claim = [*NEXUS, "claim", CODE, "--agent-id", "one", "--alias", "room"]
    subprocess.run(claim, env=environ, check=True, capture_output=True)
    before = everything(me.client_dir)
    status, said, err = add(me, "me", "--code", CODE, "--agent-id", "two")
    assert (status, said["error"]) == (1, "session_known")
    assert "under the alias room" in err
    assert "nexusd add me --alias room" in err
    assert everything(me.client_dir) == before
    assert add(me, "me", "--alias", "room")[0] == 0


@pytest.mark.parametrize("way", ["--create", "--id", "--alias"])
def test_case_142_no_other_way_overwrites_the_first_record_either(me, server, way):
    add(me, "first", "--code", CODE, "--agent-id", "one")
    before = everything(me.home)
    words = {"--create": ["--create"], "--id": ["--id", "-"], "--alias": ["--alias", "first"]}[way]
    status, said, err = add(me, "me", *words, "--agent-id", "two", stdin=SECOND)
    assert (status, said["error"]) == (1, "session_known")
    assert "first" in err
    assert everything(me.home) == before


def test_case_142_the_same_agent_let_in_again_gets_its_new_key_kept(me, server):
    add(me, "first", "--code", CODE, "--agent-id", "one")
    (me.client_dir / "sessions" / SECOND / "key").write_text("an-old-key\n")
    status, said, _ = add(me, "me", "--code", CODE, "--agent-id", "one")
    assert (status, said["servedAs"]) == (1, "first")
    assert (me.client_dir / "sessions" / SECOND / "key").read_text() == "key-of-the-claim\n"
    assert ("DELETE", f"/v1/sessions/{SECOND}/agents/one", "one") not in server.asked


# ---- case 143: the alias goes with the name


def test_case_143_add_sets_the_alias_and_remove_takes_it_away(me, server):
    server.claims = FIRST
    add(me, "a", "--code", CODE)
    assert aliases(me) == {"a": FIRST}
    me.command("remove", "a")
    assert aliases(me) == {}
    server.claims = SECOND
    add(me, "a", "--code", CODE)
    assert aliases(me) == {"a": SECOND}


def test_case_143_a_stale_alias_of_that_name_moves_to_the_new_session(me, server):
    server.claims = FIRST
    add(me, "old", "--code", CODE)
    (me.client_dir / "aliases.json").write_text(json.dumps({"a": FIRST, "old": FIRST}))
    server.claims = SECOND
    add(me, "a", "--code", CODE)
    assert aliases(me) == {"a": SECOND, "old": FIRST}


def test_case_143_remove_leaves_an_alias_that_means_another_session(me, server):
    add(me, "a", "--code", CODE)
    (me.client_dir / "aliases.json").write_text(json.dumps({"a": FIRST}))
    me.command("remove", "a")
    assert aliases(me) == {"a": FIRST}


def test_case_143_a_removed_session_is_added_again_as_the_advice_says(me, server):
    add(me, "a", "--code", CODE)
    ran = me.command("remove", "a")
    assert "nexusd add a --alias a" in ran.stderr
    assert add(me, "a", "--alias", "a")[0] == 0
    assert nexus(me, "pair", "a")[0] == 0


# ---- case 144: everything is made sure of first, and told afterwards


def sabotage_sessions_d(me):
    (me.home / "sessions.d").write_text("a file where a folder should be")


def sabotage_client_dir(me):
    me.client_dir.mkdir(mode=0o700, exist_ok=True)
    (me.client_dir / "sessions").write_text("a file where a folder should be")


def sabotage_lock(me):
    me.client_dir.mkdir(mode=0o700, exist_ok=True)
    (me.client_dir / ".lock").mkdir()


@pytest.mark.parametrize("sabotage", [sabotage_sessions_d, sabotage_client_dir, sabotage_lock])
@pytest.mark.parametrize("words", [["--code", CODE], ["--create"], ["--id", FIRST]])
def test_case_144_what_could_not_be_kept_is_found_out_before_the_server_is_asked(me, server, sabotage, words):
    sabotage(me)
    before = everything(me.home)
    status, said, err = add(me, "me", *words)
    assert (status, said["error"]) == (1, "local_files")
    assert str(me.home) in err
    assert server.asked == []
    assert everything(me.home) == before


def full_disk():
    """Files can be made, and nothing can be written into them, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_case_144_a_full_disk_is_found_out_by_writing_and_leaves_nothing_behind(me, server):
    before = {path.name for path in me.home.iterdir()}
    status, said, _ = add(
        me, "me", "--code", CODE, preexec_fn=full_disk, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert (status, said["error"]) == (1, "local_files")
    assert server.asked == []
    assert {path.name for path in me.home.iterdir()} == before


@pytest.mark.parametrize("words", [["--code", CODE], ["--create"]])
def test_case_144_where_sessions_d_fails_after_the_answer_all_is_told_and_the_advice_works(me, server, words):
    server.before = lambda: (me.home / "sessions.d").exists() or sabotage_sessions_d(me)
    status, said, err = add(me, "me", *words)
    assert (status, said["session"], said["agentId"], said["error"]) == (1, "me", "me", "local_files")
    assert "it is ours and its key is kept" in err
    assert "nexusd add me --alias me" in err
    if words == ["--create"]:
        assert said["link"] == f"{server.url}/p/{CODE}"
        assert said["link"] in err
    server.before = lambda: None
    (me.home / "sessions.d").unlink()
    assert (me.client_dir / "sessions" / SECOND / "key").exists()
    status, said, _ = add(me, "me", "--alias", "me")
    assert (status, said["agentId"]) == (0, "me")
    assert (me.client_dir / "sessions" / SECOND / "key").exists()
    assert (me.home / "sessions.d" / "me.toml").exists()


def test_case_144_where_the_key_cannot_be_kept_stdout_has_it_and_stderr_has_not(me, server):
    server.before = lambda: (
        (me.client_dir / "sessions").is_file()
        or (
            (me.client_dir / "sessions").exists() and (me.client_dir / "sessions").rmdir(),
            sabotage_client_dir(me),
        )
    )
    status, said, err = add(me, "me", "--code", CODE, hidden=())
    assert (status, said["error"], said["sessionId"], said["sessionKey"]) == (
        1,
        "local_files",
        SECOND,
        "key-of-the-claim",
    )
    assert "key-of" not in err
    assert "nexusd add me --id - --adopt --agent-id me" in err
    server.before = lambda: None
    (me.client_dir / "sessions").unlink()
    server.fails["join"] = (409, {"error": "agent_id_taken", "message": "taken"})
    assert add(me, "me", "--id", "-", "--adopt", "--agent-id", "me", stdin=SECOND)[0] == 0


@pytest.mark.parametrize("answer", [(500, {"error": "internal_error", "message": "oops"}), (404, {"error": "x"})])
def test_case_144_a_session_that_was_made_is_kept_where_there_is_no_link_for_it(me, server, answer):
    server.fails["pair"] = answer
    status, said, err = add(me, "me", "--create")
    assert (status, said["error"]) == (1, answer[1]["error"])
    assert "nexus pair me" in err
    assert (me.home / "sessions.d" / "me.toml").exists()
    del server.fails["pair"]
    assert nexus(me, "pair", "me")[1]["code"] == CODE


def test_case_144_a_session_that_was_made_and_not_entered_can_be_entered_as_the_advice_says(me, server):
    create = server.answer("PUT", "/v1/sessions")[1]
    del create["sessionKey"]
    server.fails |= {"create": (201, create), "join": (500, {"error": "internal_error", "message": "oops"})}
    status, said, err = add(me, "me", "--create")
    assert (status, said["error"], said["link"]) == (1, "internal_error", f"{server.url}/p/{CODE}")
    assert "nexusd add me --alias me" in err
    del server.fails["join"]
    assert add(me, "me", "--alias", "me")[0] == 0


def test_case_144_a_link_that_cannot_be_printed_can_be_made_again(me):
    with open("/dev/full", "wb") as full:
        words = [*NEXUSD, "add", "me", "--create", "--config", str(me.config)]
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert "nexus pair me makes a link" in ran.stderr
    assert nexus(me, "pair", "me")[0] == 0


def test_of_two_that_add_one_name_at_once_one_gets_it_and_the_other_is_told(me, server):
    folder = me.home / "sessions.d"
    folder.mkdir(mode=0o700)
    lock = os.open(folder, os.O_RDONLY)

    def rival() -> None:
        until(lambda: (me.client_dir / "sessions" / SECOND / "agent").exists() or None)
        (folder / "me.toml").touch(0o600, exist_ok=False)
        os.close(lock)

    fcntl.flock(lock, fcntl.LOCK_EX)
    with ThreadPoolExecutor() as beside:
        other = beside.submit(rival)
        status, said, _ = add(me, "me", "--code", CODE)
        other.result()
    assert (status, said["error"], said["session"]) == (1, "name_taken", None)
    assert (folder / "me.toml").read_text() == ""


# ---- cases 146 to 148: what is given


@pytest.mark.parametrize("option", ["--code", "--alias", "--id"])
@pytest.mark.parametrize("value", ["", " "])
def test_case_147_an_empty_option_is_a_wrong_usage(me, server, option, value):
    status, said, _ = add(me, "me", option, value)
    assert (status, said["error"], said["message"]) == (2, "usage", f"{option} is empty")
    assert server.asked == []


def test_case_147_the_link_in_a_whole_sentence_is_claimed_on_its_own_server(me, server):
    text = f"Come in: <{server.url.upper()}/p/{CODE.lower()}?utm=mail>, it works once."
    assert add(me, "me", "--server", server.url, "--code", text)[0] == 0
    assert server.asked[0][1] == f"/v1/pair/{CODE}/claim"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("https://messaging.md/other", "bad_code"),
        ("the code is " + CODE, "bad_code"),
        (f"http://127.0.0.1:1/p/{CODE}#nx1.secret", "sealed_link"),
        (f"nexus-sealed://127.0.0.1/p/{CODE}#nx1.secret", "sealed_link"),
    ],
)
def test_case_147_what_is_no_code_is_refused_before_anything_is_asked(me, server, text, code):
    status, said, _ = add(me, "me", "--code", text, hidden=("ABLE", "nx1.secret"))
    assert (status, said["error"]) == (1, code)
    assert server.asked == []


@pytest.mark.parametrize("name", [FIRST, f"x-{FIRST}", "7a" * 24])
def test_case_148_a_name_that_holds_a_session_id_is_refused_without_repeating_it(me, server, name):
    status, said, _ = add(me, name, "--id", "-", stdin=FIRST, hidden=(FIRST, name))
    assert (status, said["error"]) == (1, "bad_name")
    assert server.asked == []


def test_case_148_an_id_that_is_known_on_this_account_is_no_part_of_a_name(me, server):
    server.claims = odd = "opaque-session-0001"
    add(me, "first", "--code", CODE)
    status, said, _ = add(me, f"my-{odd}", "--create", hidden=(odd,))
    assert (status, said["error"]) == (1, "bad_name")


def test_case_148_a_name_that_turns_out_to_hold_the_new_sessions_id_is_not_used(me, server):
    server.claims = odd = "opaque-session-0001"
    status, said, _ = add(me, f"my-{odd}", "--code", CODE, hidden=(odd,))
    assert (status, said["error"], said["session"]) == (1, "bad_name", None)
    assert not list(me.home.glob("sessions.d/*.toml"))
    assert not me.root.exists()
    assert add(me, "other", "--id", "-", stdin=odd)[0] == 0


@pytest.mark.parametrize("name", ["daemon.json", "notes"])
def test_a_name_for_which_no_folder_can_be_made_is_refused_before_anything_is_asked(me, server, name):
    me.root.mkdir()
    (me.root / "notes").write_text("a person's own")
    status, said, _ = add(me, name, "--code", CODE)
    assert (status, said["error"]) == (1, "bad_name")
    assert server.asked == []
    assert add(me, "other", "--code", CODE)[0] == 0


# ---- case 153: other sessions' files


@pytest.mark.parametrize("text", ["id = ", 'id = "x"\nbanana = 1'])
def test_case_153_a_broken_file_of_another_session_keeps_nobody_from_adding_and_is_removed_by_its_name(me, text):
    folder = me.home / "sessions.d"
    folder.mkdir(mode=0o700)
    (folder / "broken.toml").write_text(text)
    assert add(me, "me", "--code", CODE)[0] == 0
    ran = me.command("check")
    said = json.loads(ran.stdout)
    assert list(said["skipped"]) == ["broken"]
    assert [w for w in said["warnings"] if "broken is not served" in w]
    assert "1 skipped" in ran.stderr
    doctor = me.command("doctor", check=False)
    assert [f for f in json.loads(doctor.stdout)["findings"] if f["what"] == "session broken" and f["level"] == "bad"]
    status, said, err = add(me, "broken", "--create")
    assert (status, said["error"]) == (1, "name_taken")
    assert "which is broken" in err
    assert json.loads(me.command("remove", "broken").stdout)["removed"] is True
    assert json.loads(me.command("check").stdout)["skipped"] == {}


def test_case_153_a_stray_copy_is_removed_without_leaving_the_session(me, server):
    add(me, "me", "--code", CODE)
    copy = me.home / "sessions.d" / "a-copy.toml"
    copy.touch(0o600)
    copy.write_bytes((me.home / "sessions.d" / "me.toml").read_bytes())
    said = json.loads(me.command("check").stdout)
    assert ([s["session"] for s in said["sessions"]], list(said["skipped"])) == (["me"], ["a-copy"])
    ran = me.command("remove", "a-copy", "--leave", check=False)
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (1, "not_served")
    assert me.command("remove", "a-copy").returncode == 0
    assert not [asked for asked in server.asked if asked[0] == "DELETE"]
    assert aliases(me) == {"me": SECOND}


# ---- case 185: a broken local record


def test_case_185_a_broken_record_is_that_sessions_fault_only_in_check_and_doctor(me, server):
    server.claims = FIRST
    add(me, "bad", "--code", CODE)
    server.claims = SECOND
    add(me, "good", "--code", CODE)
    (me.client_dir / "sessions" / FIRST / "key").write_text("KEY-1\nKEY-2\n")
    ran = me.command("check")
    said = json.loads(ran.stdout)
    assert ([s["session"] for s in said["sessions"]], list(said["skipped"])) == (["good"], ["bad"])
    assert "the file key of session bad" in ran.stderr
    doctor = me.command("doctor", check=False)
    findings = {f["what"]: f["level"] for f in json.loads(doctor.stdout)["findings"]}
    assert findings["session bad"] == "bad"
    assert "session good" in findings
    for text in (ran.stdout, ran.stderr, doctor.stdout, doctor.stderr):
        assert "KEY-" not in text
        assert FIRST not in text
