"""send: through the outbox where a daemon serves the session, else by HTTP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nexusd.cli.hand import given
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say
from nexusd.errors import Fate, RequestError, UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb

PATIENCE = 30.0  # seconds until a drop that no daemon claims is taken back


def send_arguments(parser: ArgumentParser) -> None:
    """Declare what `send` takes."""
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("text", metavar="TEXT", nargs="*", help="the text; - reads it from stdin, @FILE from a file")
    parser.add_argument("--json", metavar="PAYLOAD", help="a JSON payload, beside the text or alone")
    parser.add_argument("--strict", action="store_true", help="refuse where the server takes no JSON payloads")
    parser.add_argument("--direct", action="store_true", help="by HTTP, though a daemon serves the session")
    parser.add_argument(
        "--no-wait", action="store_true", help="drop it into the outbox and do not wait for the receipt"
    )
    parser.add_argument("--timeout", metavar="D", help="how long to wait for the daemon (30s)")


def send(args: Namespace) -> Verb:
    """Send a message and show the receipt, or what the server says."""
    desk = Desk(args)
    session = desk.session(args.session)
    timeout = given.wait(args.timeout, "timeout")
    text = given.text(args.text)
    payload = None if args.json is None else given.payload(args.json)
    if not text and payload is None:
        raise UserError("nothing_to_send", "there is nothing to send: give a text, or --json PAYLOAD, or both")
    folder = None if args.direct or args.strict else _outbox(desk, args, session)
    if folder is None:
        return (yield from _by_http(desk, args, session, text or None, payload))
    from nexusd.cli import stopping  # noqa: PLC0415 - only beside a daemon
    from nexusd.cli.hand import dropping  # noqa: PLC0415

    patience = PATIENCE if timeout is None else timeout
    with stopping.Held() as held:
        outcome = dropping.deliver(held, folder, text or None, payload, None if args.no_wait else patience)
    if outcome.sentence:
        say(outcome.sentence)
    yield outcome.shown
    return outcome.status


def _outbox(desk: Desk, args: Namespace, session: str) -> str | None:
    """The folder of the daemon that serves the session, unless the message is to go as somebody else or elsewhere."""
    from nexusd.serving import is_root_served, is_served  # noqa: PLC0415 - not with --direct

    folder = desk.folder(session)
    if folder is None:
        return None
    if not is_served(desk.state, session):
        runs = is_root_served(desk.state, os.path.dirname(folder))
        why, then = ("the daemon does not serve", "nexusd status") if runs else ("no daemon runs for", "nexusd run")
        say(
            f"warning: {why} {desk.label(session) or 'this session'}, so this goes straight to the server, past the "
            f"files that wait in {folder}/outbox; {'to see why' if runs else 'to start it'}: {then}"
        )
        return None
    if args.agent_id and given.agent_id(args.agent_id) != desk.state.agent(session):
        return None
    if args.url and given.server(args.url) != desk.bound(session):
        return None
    return folder


def _by_http(desk: Desk, args: Namespace, session: str, text: str | None, payload: Any) -> Verb:
    from nexusd.wire import calls  # noqa: PLC0415 - a drop needs none of it
    from nexusd.wire.records import is_redacted  # noqa: PLC0415

    agent, server = desk.agent(session), desk.server(session)
    if payload is not None and not _takes_json(desk, server):
        if args.strict:
            raise UserError("json_not_supported", "this server takes no JSON payloads; leave out --strict or --json")
        say("warning: this server takes no JSON payloads; it goes as text")
        text, payload = " ".join(part for part in (text, args.json.strip()) if part), None
    try:
        reply = desk.ask(server, calls.send(session, agent, desk.key(session, agent), text=text, payload=payload))
    except RequestError as fault:
        if fault.fate is Fate.MAYBE_SENT and fault.body is None:
            more = "it may have arrived all the same, so look with nexus poll before sending it again"
            raise RequestError(fault.fate, fault.code, f"{fault}; {more}", status=fault.status) from fault
        raise
    yield reply.text
    desk.adopt(session, server)
    if is_redacted(reply.raw):
        say("warning: the server took something in it for a secret and replaced it")
    return 0


def _takes_json(desk: Desk, server: str) -> bool:
    """Whether the server takes JSON payloads: asked at most every 5 minutes; where it does not say, it does not."""
    from nexusd.wire import calls  # noqa: PLC0415
    from nexusd.wire.records import Health  # noqa: PLC0415

    known = desk.state.caps(server)
    if known is not None:
        return Health.of({"capabilities": known}).takes_json
    try:
        health = Health.of(desk.ask(server, calls.health()).raw)
    except RequestError:
        return False
    able = health.raw.get("capabilities")
    if isinstance(able, dict):
        desk.state.set_caps(server, able)
    return health.takes_json
