"""nexusd doctor: what it finds, and that nothing makes it hang."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
import time

import pytest

from nexusd.cli.service import grounds, installed
from nexusd.config.load import load
from tests.world import until


def doctor(daemon):
    ran = daemon.command("doctor", check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    said = json.loads(ran.stdout)
    assert ran.returncode == (1 if any(f["level"] == "bad" for f in said["findings"]) else 0)
    for finding in said["findings"]:
        assert finding["level"] in ("ok", "warn", "bad")
        assert bool(finding["remedy"]) is (finding["level"] != "ok")
    return ran, said


def about(said, what, level=None):
    return [f for f in said["findings"] if what in f["what"] and level in (None, f["level"])]


def test_where_all_is_well_nothing_is_bad(pair):
    alice, _ = pair
    ran, said = doctor(alice)
    assert (ran.returncode, said["ok"]) == (0, True), ran.stderr
    for what in ("daemon", "configuration", "root", "client_dir", "leases", "name", "connection", "health", "clock"):
        assert about(said, what, "ok"), what
    assert about(said, "session chat", "ok")[0]["finding"].startswith("we are in it")
    session = next(alice.client_dir.joinpath("sessions").iterdir())
    key = (session / "key").read_text().strip()
    assert session.name not in ran.stdout + ran.stderr
    assert key not in ran.stdout + ran.stderr


def test_a_session_that_is_blocked_is_a_finding_with_what_mends_it(pair):
    alice, _ = pair
    outbox = alice.folder("chat") / "outbox"
    until(lambda: alice.view("chat")["state"] == "active")
    outbox.rename(alice.home / "away")
    outbox.write_text("in the way")
    until(lambda: alice.view("chat")["state"] == "blocked")
    (found,) = until(lambda: about(doctor(alice)[1], "session chat", "bad"))
    assert str(outbox) in found["finding"]
    assert "move it away" in found["remedy"]
    outbox.unlink()
    (alice.home / "away").rename(outbox)
    until(lambda: not about(doctor(alice)[1], "session chat", "bad"), patience=60)


def test_a_member_that_was_put_out_and_a_key_that_all_can_read(pair, relay):
    _, bob = pair
    bob.stop()
    session = next(bob.client_dir.joinpath("sessions").iterdir())
    key = session / "key"
    relay.ask("DELETE", f"/v1/sessions/{session.name}/agents/bob", "bob", key.read_text().strip())
    key.chmod(0o644)
    bob.root.chmod(0o755)
    ran, said = doctor(bob)
    assert ran.returncode == 1
    found = [f["finding"] for f in about(said, "session chat", "bad")]
    assert found == ["its key may be read by others (mode 0644)", "bob is not in it (any more)"]
    assert about(said, "root", "warn")[0]["remedy"] == f"chmod 700 {bob.root}"
    assert about(said, "daemon", "warn")[0]["remedy"] == "nexusd run"


def test_a_session_that_is_gone(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.configure(sessions=f'[sessions.ghost]\nid = "{"f" * 48}"\n')
    _, said = doctor(alice)
    assert about(said, "session ghost", "bad")[0]["remedy"] == "nexusd remove ghost"


def test_a_server_that_is_not_there(pair, relay):
    alice, _ = pair
    relay.stop()
    ran, said = doctor(alice)
    assert ran.returncode == 1
    assert "refused" in about(said, "connection", "bad")[0]["finding"]
    assert not about(said, "health")
    assert about(said, "session chat", "warn")


def test_a_name_that_does_not_exist(daemons):
    alice = daemons("alice", "https://no-such-host.invalid")
    _, said = doctor(alice)
    assert about(said, "name", "bad")[0]["remedy"] == "getent ahosts no-such-host.invalid"


class Server:
    """Accepts, and answers with what it is given."""

    def __init__(self, answer=b"", context=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answer, self.context = answer, context
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            while self.answer and b"\r\n\r\n" not in connection.recv(65_536):
                pass
            if self.answer:
                connection.sendall(self.answer)
                connection.close()
            else:
                time.sleep(60)
        except OSError:
            pass


def health(date):
    body = b'{"status":"ok","version":"9"}'
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %s\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (date, len(body), body)
    )


def test_a_clock_that_is_off(daemons):
    server = Server(health(b"Mon, 02 Nov 2020 10:00:00 GMT"))
    _, said = doctor(daemons("alice", f"http://127.0.0.1:{server.port}"))
    found = about(said, "clock", "warn")[0]
    assert "ahead of the server's" in found["finding"]
    assert found["remedy"] == "timedatectl set-ntp true"


def test_something_else_answers_there(daemons):
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    _, said = doctor(daemons("alice", f"http://127.0.0.1:{server.port}"))
    assert "NexusMessaging server" in about(said, "health", "bad")[0]["finding"]


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(daemons):
    began = time.monotonic()
    _, said = doctor(daemons("alice", f"http://127.0.0.1:{Server().port}"))
    assert about(said, "health", "bad")
    assert time.monotonic() - began < 20


def test_a_certificate_that_nobody_vouches_for(daemons, tmp_path):
    words = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=localhost"
    made = subprocess.run(
        ["openssl", *words.split(), "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("NOT TESTED: no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    port = Server(health(b""), context).port
    alice = daemons("alice", f"https://localhost:{port}")
    _, said = doctor(alice)
    found = about(said, "TLS", "bad")[0]
    assert "self-signed" in found["finding"].replace("self signed", "self-signed")
    assert f"localhost:{port}" in found["remedy"]
    alice.configure(extra=f'ca_file = "{tmp_path}/cert"')
    assert "certificate expires in" in about(doctor(alice)[1], "TLS", "warn")[0]["finding"]


def test_a_broken_configuration_is_a_finding(pair):
    alice, _ = pair
    alice.config.write_text("= = =\n")
    ran, said = doctor(alice)
    assert ran.returncode == 1
    assert "is not TOML" in about(said, "configuration", "bad")[0]["finding"]


# ---- what it stands on


def levels(findings):
    return {f.what: f.level for f in findings}


def test_a_root_that_is_a_file(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.root.write_text("")
    found = levels(grounds.examine(load(str(alice.config))))
    assert found[f"root {alice.root}"] == "bad"


def test_file_systems_and_space_and_limits(monkeypatch, tmp_path):
    monkeypatch.setattr(grounds, "_mount", lambda _: ("/mnt", "nfs4"))
    assert grounds._file_system("root", str(tmp_path)).level == "warn"
    monkeypatch.setattr(grounds, "_mount", lambda _: ("/mnt", "tmpfs"))
    assert "gone after a restart" in grounds._file_system("root", str(tmp_path)).finding
    monkeypatch.setattr(grounds, "SPACE", 1 << 60)
    assert next(f.level for f in grounds._space("root", str(tmp_path))) == "bad"
    monkeypatch.setattr(grounds, "lease", lambda _: None)
    assert grounds._leases(str(tmp_path)).level == "warn"
    assert "are needed" in [f.finding for f in grounds._inotify(10**9)][1]
    assert list(tmp_path.iterdir()) == []


def test_the_mount_of_a_path_is_the_innermost():
    assert grounds._mount("/proc/self/fd") == ("/proc", "proc")
    assert grounds._mount("/")[0] == "/"


# ---- the unit


def unit_world(tmp_path, monkeypatch):
    system = tmp_path / "system"
    config = tmp_path / "config"
    system.mkdir()
    (config / "systemd" / "user").mkdir(parents=True)
    monkeypatch.setattr(installed, "LINGER", str(tmp_path / "linger"))
    environ = {"XDG_CONFIG_HOME": str(config)}
    return system, config / "systemd" / "user", lambda: list(installed.examine(environ, (str(system),)))


def test_no_unit_is_installed(tmp_path, monkeypatch):
    _, _, examine = unit_world(tmp_path, monkeypatch)
    assert [(f.level, f.what) for f in examine()] == [("warn", "unit")]
    assert "nexusd unit --user >" in examine()[0].remedy


def test_a_user_unit_step_by_step(tmp_path, monkeypatch):
    _, user, examine = unit_world(tmp_path, monkeypatch)
    (user / "nexusd.service").write_text("[Service]\nExecStart=/no/such/nexusd run\n")
    assert [f.level for f in examine()] == ["bad", "warn", "warn"]
    (user / "nexusd.service").write_text("[Service]\nExecStart=/bin/true run\n")
    assert next(f.remedy for f in examine()) == "systemctl --user enable --now nexusd"
    (user / "default.target.wants").mkdir()
    (user / "default.target.wants" / "nexusd.service").symlink_to(user / "nexusd.service")
    assert [f.level for f in examine()] == ["ok", "warn"]
    assert "enable-linger" in examine()[1].remedy
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / installed._account()).write_text("")
    assert [f.level for f in examine()] == ["ok", "ok"]


def test_a_system_unit_and_two_units(tmp_path, monkeypatch):
    system, user, examine = unit_world(tmp_path, monkeypatch)
    (system / "nexusd@.service").write_text('[Service]\nExecStart="/bin/true" run\n')
    assert examine()[0].remedy == f"systemctl enable --now nexusd@{installed._account()}"
    (system / "multi-user.target.wants").mkdir()
    os.symlink("x", system / "multi-user.target.wants" / f"nexusd@{installed._account()}.service")
    assert [f.level for f in examine()] == ["ok"]
    (user / "nexusd.service").write_text("[Service]\nExecStart=/bin/true run\n")
    assert "there are two" in examine()[-1].finding
