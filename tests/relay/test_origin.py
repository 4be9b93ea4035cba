"""Which address a request may make us print."""

from __future__ import annotations

import pytest

from nexusd.relay.origin import origin

BOUND = "http://127.0.0.1:3000"


@pytest.mark.parametrize("host", ["relay.example", "localhost:3000", "[::1]:3000", "192.0.2.1", "a-b.c:65535"])
def test_a_sound_host_is_believed(host) -> None:
    assert origin("http", host, BOUND) == f"http://{host}"
    assert origin("https", host, BOUND) == f"https://{host}"


@pytest.mark.parametrize(
    "host",
    [
        "",
        None,
        "a b",
        '"><script>',
        "a/b",
        "a;rm",
        "a'b",
        "$(id)",
        "a\nb",
        "[::1",
        "-x",
        "a:",
        "a:123456",
        "u@h",
        "a" * 300,
    ],
)
def test_an_odd_host_is_replaced_by_the_bound_address(host) -> None:
    assert origin("http", host, BOUND) == BOUND


def test_an_odd_scheme_is_not_believed() -> None:
    assert origin("javascript", "relay.example", BOUND) == BOUND
