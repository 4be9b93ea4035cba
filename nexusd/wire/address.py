"""Which server addresses are acceptable."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from nexusd.errors import UserError

DEFAULT_SERVER = "https://messaging.md"


def server_url(url: str, *, allow_insecure: bool = False) -> str:
    """The server's URL without a trailing slash, or UserError `bad_url`.

    Session ids travel in URLs and are bearer secrets: plain http is for loopback only unless `allow_insecure`.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or port == 0 or not url.isprintable() or " " in url:
        raise UserError("bad_url", f"{_shown(url)} is not a server URL; one looks like {DEFAULT_SERVER}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError("bad_url", f"the server URL for {host} may hold no user, password, ? or #; leave them out")
    if parts.scheme == "http" and not allow_insecure and not is_loopback(host):
        raise UserError(
            "insecure_url",
            f"http://{host} would send session ids unencrypted; use https://, or set allow_insecure = true",
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether the host names this machine itself; no name is looked up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(url: str) -> str:
    return ascii(url if len(url) <= 100 else url[:100] + "...")
