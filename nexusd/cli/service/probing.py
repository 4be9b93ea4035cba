"""Servers and sessions, asked step by step, so that it shows where it fails: name, connection, TLS, protocol, clock."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from nexusd.cli.service.findings import Finding, bad, ok, warn
from nexusd.cli.service.troubles import span
from nexusd.errors import Fate, NexusError, RequestError
from nexusd.wire import calls
from nexusd.wire.fate import refused
from nexusd.wire.records import Session, json_object
from nexusd.wire.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexusd.clientdir import ClientDir
    from nexusd.config.records import Config, SessionConfig

PATIENCE = 8.0  # seconds for one step
SKEW = 30.0  # seconds; with clocks further apart, expiry times mislead
T = TypeVar("T")


async def server(config: Config, url: str) -> tuple[list[Finding], Transport | None]:
    """What is found of a server, and how to ask it if that works."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    found: list[Finding] = []
    if config.proxy is None:
        found += _steps(url, host, port, secure=parts.scheme == "https", ca_file=config.ca_file)
        if any(finding.level == "bad" for finding in found):
            return found, None
    else:
        found.append(ok(f"{url}: connection", "it goes through the proxy of the configuration"))
    try:
        transport = Transport(url, proxy=config.proxy, ca_file=config.ca_file, deadline=PATIENCE)
    except OSError as fault:
        return [*found, bad(f"{url}: TLS", f"ca_file cannot be used: {fault}", "mend ca_file, or leave it out")], None
    call = calls.health()
    try:
        answer = await transport.carry(call, limit=1 << 20)
        if not 200 <= answer.status < 300:
            raise refused(call, answer)
        raw = json_object(call, answer)
    except NexusError as fault:
        found.append(_unwell(url, fault))
        if isinstance(fault, RequestError) and fault.fate in (Fate.NOT_SENT, Fate.WAIT) and fault.status in (None, 429):
            await transport.close()  # nothing else would be answered either; /health alone is only a hint
            return found, None
    else:
        found.append(ok(f"{url}: health", f"version {str(raw.get('version', 'unknown'))[:40]}"))
        found.append(_skew(url, answer.server_time))
    return found, transport


def _steps(url: str, host: str, port: int, *, secure: bool, ca_file: str | None) -> Iterator[Finding]:
    began = time.monotonic()
    addresses = _bounded(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    if isinstance(addresses, Exception):
        yield bad(f"{url}: name", f"{host} has no address: {addresses}", f"getent ahosts {host}")
        return
    yield ok(f"{url}: name", f"{len({address[4][0] for address in addresses})} address(es) in {_ms(began)}")
    began = time.monotonic()
    try:
        connection = socket.create_connection((host, port), timeout=PATIENCE)
    except OSError as fault:
        yield bad(f"{url}: connection", f"port {port} of {host}: {fault.strerror or fault}", f"curl -v {url}/health")
        return
    with connection:
        yield ok(f"{url}: connection", f"port {port} answers in {_ms(began)}")
        if secure:
            yield _tls(url, host, connection, ca_file)


def _tls(url: str, host: str, connection: socket.socket, ca_file: str | None) -> Finding:
    import certifi  # noqa: PLC0415 - only for https

    what = f"{url}: TLS"
    try:
        context = ssl.create_default_context(cafile=ca_file or certifi.where())
        with context.wrap_socket(connection, server_hostname=host) as secured:
            ends = ssl.cert_time_to_seconds(str((secured.getpeercert() or {}).get("notAfter")))
            left = ends - time.time()
            version = secured.version()
    except (OSError, ValueError) as fault:
        why = getattr(fault, "verify_message", None) or getattr(fault, "strerror", None) or str(fault)
        remedy = (
            f"openssl s_client -connect {host}:{connection.getpeername()[1] if False else urlsplit(url).port or 443}"
        )
        return bad(what, f"the certificate or the handshake is no good: {why}", remedy)
    if left < 3 * 86_400:
        return warn(what, f"the certificate expires in {span(left)}", "tell who runs the server")
    return ok(what, f"{version}, certificate good for {span(left)}")


def _unwell(url: str, fault: NexusError) -> Finding:
    remedy = f"curl -v {url}/health"
    if isinstance(fault, RequestError) and fault.fate is Fate.WAIT:
        return warn(f"{url}: health", f"it limits us: {fault}", "wait a minute; see requests_per_minute")
    return bad(f"{url}: health", f"it does not answer as a NexusMessaging server: {fault}", remedy)


def _skew(url: str, server_time: float | None) -> Finding:
    if server_time is None:
        return warn(f"{url}: clock", "it does not say what time it has", "none is needed: only times shown may mislead")
    ahead = time.time() - server_time
    if abs(ahead) > SKEW:
        said = f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
        return warn(f"{url}: clock", said, "timedatectl set-ntp true")
    return ok(f"{url}: clock", "it agrees with ours to the half minute")


async def session(config: SessionConfig, state: ClientDir, transport: Transport | None) -> list[Finding]:
    """What is found of a session: its key's file, and what its server says of it."""
    what, found = f"session {config.name}", []
    path = os.path.join(state.path, "sessions", config.id, "key")
    agent = state.agent(config.id)
    if agent is None:
        found.append(warn(what, "no record says that we joined it", "nexusd run joins it; or nexusd add again"))
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        if agent is not None:
            found.append(
                warn(
                    what,
                    "no key is kept: our messages count as unverified, if the server takes them at all",
                    "put the key's file back (a backup), or go on in a new session: nexusd add --help",
                )
            )
    else:
        if mode & 0o077:
            found.append(bad(what, f"its key may be read by others (mode {mode:04o})", f"chmod -R go= {state.path}"))
    if transport is None:
        return [*found, warn(what, "its server could not be asked", "mend what is said of the server")]
    return [*found, *await _asked(what, config, agent, transport)]


async def _asked(what: str, config: SessionConfig, agent: str | None, transport: Transport) -> list[Finding]:
    call = calls.session(config.id)
    try:
        answer = await transport.carry(call, limit=1 << 20)
        if not 200 <= answer.status < 300:
            raise refused(call, answer)
        raw: dict[str, Any] = json_object(call, answer)
        seen = Session.of({"sessionId": config.id, **raw})
    except RequestError as fault:
        if fault.status == 404 and fault.code == "session_not_found":
            return [bad(what, "the server does not know it (any more)", f"nexusd remove {config.name}")]
        return [warn(what, f"asking for it failed: {fault}", f"nexusd status {config.name}")]
    except KeyError as fault:
        return [warn(what, f"the server's answer lacks {fault}", "tell who runs the server")]
    if agent is not None and isinstance(raw.get("agents"), list) and agent not in seen.agents:
        return [bad(what, f"{agent} is not in it (any more)", f"nexusd status {config.name}; a running nexusd rejoins")]
    if seen.lease.expires_at is None:
        return [ok(what, "we are in it")]
    left = seen.lease.expires_at - (answer.server_time or time.time())
    if seen.lease.ttl and left < seen.lease.ttl / 4:
        return [warn(what, f"it expires in {span(max(left, 0))}", "nexusd run renews it; see renew_for")]
    return [ok(what, f"we are in it, and it lives for {span(max(left, 0))} more")]


def _bounded(work: Callable[[], T]) -> T | Exception:
    """The result of something that may hang for longer than anyone waits; its thread dies with us."""
    result: list[T | Exception] = [TimeoutError(f"no answer within {PATIENCE:.0f} s")]

    def run() -> None:
        try:
            result[0] = work()
        except Exception as fault:
            result[0] = fault

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return result[0]


def _ms(began: float) -> str:
    return f"{1000 * (time.monotonic() - began):.0f} ms"
