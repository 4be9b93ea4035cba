"""What in an overview needs a person, in words that say what to do."""

from __future__ import annotations

import os
from typing import Any

from nexusd.cli.service.overview import age

WAITED = 600.0  # seconds that a file may wait, or a server be unreachable, before it is worth a person's time
RECENT = 86_400.0  # seconds for which a file that came to failed/ is news
OVERDUE = 0.1  # of the time to live: with so little left, all attempts to renew must have failed


def troubles(seen: dict[str, Any]) -> list[str]:
    """Sentences, the worst first; none when all is well."""
    sessions = (f"{s['session']}: {said}" for s in seen["sessions"] for said in _session(seen, s))
    return [*_daemon(seen), *sessions, *map(_unserved, seen.get("unserved", ()))]


def span(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _daemon(seen: dict[str, Any]) -> list[str]:
    daemon, rejected = seen["daemon"], seen["config"]["rejected"]
    pid = daemon["pid"]
    found = [f"nothing can be served: {seen['rootError']}"] if seen.get("rootError") else []
    if not daemon["running"]:
        found.append(f"nexusd is not running on {seen['root']}; start it: nexusd run, or systemctl --user start nexusd")
    elif daemon["halted"]:
        found.append(f"nexusd (pid {pid}) has been halted by a signal; let it go on: kill -CONT {pid}")
    elif daemon["stuck"] and not seen.get("rootError"):
        found.append(
            f"nexusd (pid {pid}) is stuck: no sign of life for {span(daemon['silentFor'])}; "
            f"look at its log, then end it{f': kill -9 {pid}' if pid else ''} (nothing is lost)"
        )
    if seen.get("away"):
        found.append(str(seen["away"]))
    if rejected:
        kept = "the old one is in force" if daemon["running"] else "nexusd would not start"
        found.append(f"the configuration is broken, {kept}; mend it: {'; '.join(map(str, rejected))}")
    return found


def _session(seen: dict[str, Any], session: dict[str, Any]) -> list[str]:
    name, state, error = session["session"], session["state"], session.get("lastError")
    if not seen["daemon"]["running"]:
        return [f"{session['unsent']} unsent"] if session["unsent"] else []
    if state == "skipped":
        return [f"it is not served: {error}"]
    if state == "blocked" and seen.get("rootError"):
        return []  # said once, for all of them
    found = []
    told = {
        "blocked": f"blocked on this machine; it goes on by itself once that has passed: {error}",
        "expired": f"it has expired; nexusd remove {name}, and add a new one (it is asked for again for an hour)",
        "left": f"it was left by hand; nexusd remove {name}",
        "stopped": f"it stopped and waits for you: {error}",
        "evicted": f"the server put us out: {error or 'we are let in again by and by'}",
        "unknown": "the daemon has not taken it up yet; look again in a second, then at its log",
    }
    if state in told:
        found.append(told[state])
    polled = age(session.get("lastPollAt"))
    if state in ("backoff", "joining") and error and (polled is None or polled > WAITED):
        found.append(f"{'never reached' if polled is None else f'not reached for {span(polled)}'}: {error}")
    if state in ("active", "backoff", "evicted"):
        left, ttl = session["expiresIn"], session.get("ttl")
        if left is not None and isinstance(ttl, int | float) and left < ttl * OVERDUE:
            found.append(f"it expires in {span(max(left, 0))} and is not renewed; see renew_for, and its log")
    if (waiting := session["oldestUnsent"]) is not None and waiting > WAITED:
        found.append(f"{session['unsent']} unsent, the oldest for {span(waiting)}{f': {error}' if error else ''}")
    if (failed := session["newestFailed"]) is not None and failed <= RECENT:
        found.append(f"{session['failed']} in failed/; the reasons stand beside them, then nexusd release {name} FILE")
    return found


def _unserved(place: dict[str, Any]) -> str:
    name = os.path.basename(place["folder"])
    return (
        f"{place['unsent']} unsent in {place['folder']}, and no session is called {name}: "
        f"nobody sends them; move them to where they belong, or add a session of this name"
    )
