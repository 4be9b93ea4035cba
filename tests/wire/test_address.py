"""Which server addresses are acceptable."""

from __future__ import annotations

import pytest

from nexusd.errors import UserError
from nexusd.wire.address import is_loopback, server_url


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://messaging.md", "https://messaging.md"),
        ("https://messaging.md/", "https://messaging.md"),
        ("https://Messaging.MD:8443/base/", "https://messaging.md:8443/base"),
        ("HTTPS://messaging.md", "https://messaging.md"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://localhost", "http://localhost"),
        ("http://relay.localhost", "http://relay.localhost"),
        ("http://[::1]:3000/", "http://[::1]:3000"),
    ],
)
def test_an_address_has_one_form(url, same):
    assert server_url(url) == same
    assert server_url(same) == same


@pytest.mark.parametrize(
    "url",
    [
        "",
        "messaging.md",
        "ftp://x",
        "https://",
        "https:///x",
        "https://x:0",
        "https://x:99999",
        "https://x:port",
        "https://a b",
        "https://x\n",
        "https://x/\x1b[2J",
        "https://[::1",
        "https://x/ y",
        "file:///etc/passwd",
        "https://u:p@x",
        "https://u@x",
        "https://x?a=b",
        "https://x#y",
    ],
)
def test_anything_else_is_refused_with_a_word_and_a_sentence(url):
    with pytest.raises(UserError) as caught:
        server_url(url)
    assert caught.value.code == "bad_url"
    assert str(caught.value).isprintable()


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(UserError) as caught:
        server_url("https://me:hunter2@x.example")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["example.com", "192.0.2.1", "localhost.example.com", "127.0.0.1.example.com", "0.0.0.0"]
)
def test_ids_do_not_travel_unencrypted_beyond_this_machine_unless_allowed(host):
    with pytest.raises(UserError) as caught:
        server_url(f"http://{host}")
    assert caught.value.code == "insecure_url"
    assert "allow_insecure" in str(caught.value)
    assert server_url(f"http://{host}", allow_insecure=True) == f"http://{host}"


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_known_without_looking_up_names(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhos", "xlocalhost", "10.0.0.1", "::2", "example.com"])
def test_nothing_else_is_loopback(host):
    assert not is_loopback(host)
