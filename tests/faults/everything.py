"""Everything at once, with real processes: python -m tests.faults.everything [SECONDS] [SEED].

A daemon serves three sessions on a misbehaving server while faults of the server, the place, the processes and the
hand come and go as a seed says. Then all of them end, and five minutes later at most everything must be well.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.happenings import NAMES, Happenings

WELL_WITHIN = 300.0  # seconds after the last fault


class Everything(Happenings):
    """One course."""

    def run(self, seconds: float) -> None:
        """Faults for so long; then none, and everything must become well."""
        self.alice.start()
        acts = [
            *[self.traffic] * 20,
            *[self.a_word] * 12,
            self.a_restart,
            self.an_eviction,
            self.no_echo,
            self.a_full_disk,
            self.an_unmount,
            self.a_client_dir_that_is_away,
            self.a_lost_corner,
            self.a_link_for_the_outbox,
            self.a_kill,
            self.a_kill,
            self.a_stop,
            self.a_halt,
            self.a_reload,
            self.a_hand,
            self.a_hand,
            self.a_hand,
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._ends()
            act = self.chance.choice(acts)
            if (did := act()) != "-":
                self.did[act.__name__] += 1
                self.log(f"{act.__name__} {did}")
            time.sleep(self.chance.choice([0.0, 0.05, 0.3, 1.0]))
        self.calm()

    def calm(self) -> None:
        """All faults end."""
        self.log("calm")
        self.words.clear()
        self._ends(all_of_them=True)
        self.server.echo = True
        began = time.monotonic()
        for name in NAMES:
            self.server.say(self.sessions[name], "peter", self.keys[name], f"{name} the end")
        while wrong := self.not_well():
            assert time.monotonic() - began < WELL_WITHIN, f"not well after {WELL_WITHIN:.0f} s: {wrong}"
            time.sleep(1)
            for name in NAMES:
                if f"end-{name}.txt" not in self.texts:
                    with contextlib.suppress(OSError):
                        self._drop(name, f"end-{name}.txt", f"the end of {name}")
        self.log(f"well after {time.monotonic() - began:.0f} s")
        self.kept()

    def not_well(self) -> list[str]:
        """What is not well yet."""
        found = []
        told = json.loads(self.alice.command("status", check=False).stdout)
        found += [trouble for trouble in told["troubles"] if "in failed/" not in trouble]
        found += [
            f"{s['session']} is {s['state']}: {s['lastError']}" for s in told["sessions"] if s["state"] != "active"
        ]
        for name in NAMES:
            heard = self.alice.texts(name)
            session = self.server.exchange._living._sessions[self.sessions[name]]
            there = [m.text for m in session.messages if m.agent_id == "peter"]
            if missing := [text for text in there if text not in heard]:
                found.append(f"{name}: not heard: {missing}")
            places = self.alice.places(name)
            if waiting := {file: p for file, p in places.items() if p[0] not in ("sent", "failed")}:
                found.append(f"{name}: waiting: {waiting}")
            if f"end-{name}.txt" not in self.texts:
                found.append(f"{name}: nothing can be dropped")
        return found

    def kept(self) -> None:
        """The promises."""
        for name in NAMES:
            lines = self.alice.inbox(name)
            first = lines[0]["seq"]
            assert [line["seq"] for line in lines] == list(range(first, first + len(lines))), f"{name}: numbers"
            assert first == 1 or lines[0].get("notice") == "gap", f"{name}: lines are not there, unsaid"
            heard = Counter(line["text"] for line in lines if line["kind"] == "message" and line["agentId"] == "peter")
            assert not [text for text, times in heard.items() if times > 1], f"{name}: doubled: {heard.most_common(3)}"
            places = self.alice.places(name)
            accepted = Counter(
                m.text for m in self.server.truth if m.agent == "alice" and m.session == self.sessions[name]
            )
            for file, (session, text) in self.texts.items():
                if session != name:
                    continue
                assert file in places, f"{name}: {file} is nowhere"
                assert len(places[file]) == 1, f"{name}: {file} is in {places[file]}"
                where = places[file][0]
                note = json.loads(
                    (
                        self.alice.folder(name) / where / f"{file}.{'receipt' if where == 'sent' else 'error'}.json"
                    ).read_text()
                )
                if where == "sent":
                    assert accepted[text] >= 1, f"{name}: {file} was never accepted: {note}"
                    assert accepted[text] == 1 or note["possibleDuplicate"], f"{name}: {file} is doubled unsaid: {note}"
                else:
                    doubt = note["error"] == "ambiguous" or "may have arrived" in note["message"]
                    assert accepted[text] == 0 or doubt, f"{name}: {file} arrived, and that is not said: {note}"
                    self.log(f"failed: {note['error']}: {note['message'][:100]}")
        everywhere = self.alice.texts_everywhere()
        for secret in [*self.sessions.values(), *self._keys()]:
            assert secret not in everywhere, "a secret is in the log or below the root"
        assert "Traceback" not in (self.alice.home / "log").read_text()
        self.log(f"{len(self.texts)} files, {sum(self.said.values())} messages; {dict(self.did.most_common())}")

    def _keys(self) -> list[str]:
        return [path.read_text().strip() for path in self.alice.client_dir.glob("sessions/*/key")]


def main(seconds: float, seed: int) -> None:
    """One course; a failure keeps its folder, and names the seed that repeats it."""
    home = Path(tempfile.mkdtemp(prefix=f"everything-{seed}-"))
    course = Everything(home, seed, lambda line: print(line, flush=True))
    try:
        course.run(seconds)
    except BaseException:
        print(f"seed {seed}; its files: {home}", file=sys.stderr)
        raise
    else:
        course.close()
        shutil.rmtree(home, ignore_errors=True)
    finally:
        course.close()


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    main(given[0] if given else 1800.0, int(given[1]) if len(given) > 1 else random.randrange(10**6))
