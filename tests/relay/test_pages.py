"""The pages of a pairing link, by who asks."""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from html import unescape

import pytest

from nexusd.relay import pages, skill

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def code(exchange, session) -> str:
    return exchange.pair(session)["code"]


def commands(code: str, origin: str = "http://relay.test:3000") -> tuple[str, ...]:
    return (
        f"nexusd add NAME --code {code} --agent-id YOUR-AGENT-ID --server {origin}",
        f"nexus claim {code} --agent-id YOUR-AGENT-ID --url {origin}",
        f"curl -sS -X POST {origin}/v1/pair/{code}/claim -H 'X-Agent-Id: YOUR-AGENT-ID'",
    )


def test_an_agent_is_sent_to_the_skill(ask, code) -> None:
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "text/markdown"}):
        moved = ask("GET", f"/p/{code}", headers=headers)
        assert (moved.status_code, moved.headers["location"]) == (301, f"/v1/pair/{code}/skill")
        assert moved.headers["cache-control"] == "no-store"
        assert moved.headers["vary"] == "Accept"


def test_the_skill_teaches_the_protocol_with_the_code_filled_in(ask, code) -> None:
    taught = ask("GET", f"/v1/pair/{code}/skill")
    assert (taught.status_code, taught.headers["content-type"]) == (200, "text/markdown; charset=utf-8")
    for needed in (
        *commands(code),
        "/messages?after=",
        "/renew",
        "-d '{}'",
        '-d \'{"text":"hello"}\'',
        "X-Session-Key",
    ):
        assert needed in taught.text


def test_a_browser_gets_a_page_that_needs_nothing_else(ask, code) -> None:
    page = ask("GET", f"/p/{code}", headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    shown = [unescape(re.sub("<.*?>", "", pre)) for pre in re.findall("<pre>(.*?)</pre>", page.text)]
    assert shown[:3] == [*commands(code)]
    assert re.search(r"until <time datetime=\"[^\"]+Z\">\d\d:\d\d UTC</time>", page.text)
    assert "prefers-color-scheme" in page.text
    assert 'name="viewport"' in page.text
    assert not re.search(r"(src|href)=", page.text)
    assert page.headers["referrer-policy"] == "no-referrer"


def test_the_page_may_run_and_load_its_own_style_and_script_only(ask, code) -> None:
    page = ask("GET", f"/p/{code}", headers=BROWSER)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = b64encode(sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_looking_does_not_burn_the_code(ask, code) -> None:
    ask("GET", f"/p/{code}", headers=BROWSER)
    ask("GET", f"/v1/pair/{code}/skill")
    assert ask("GET", f"/v1/pair/{code}/status").json() == {"state": "pending"}


def test_a_code_that_is_over_or_unknown_has_pages_of_its_own(ask, exchange, clock, session, code) -> None:
    other = exchange.pair(session)["code"]
    exchange.claim(code, "carol")
    clock.pass_by(600)
    seen = set()
    for which, status, word in ((code, 410, "used"), (other, 410, "expired"), ("OAK-OAK-33333", 404, "No such")):
        for response in (ask("GET", f"/p/{which}", headers=BROWSER), ask("GET", f"/v1/pair/{which}/skill")):
            assert response.status_code == status
            assert word in response.text
            assert "nexusd add" not in response.text
            seen.add(response.text)
    assert len(seen) == 6


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "x;rm -rf ~", "a'b", "[::1", "$(id)"])
def test_a_hostile_host_header_injects_nothing(ask, code, host) -> None:
    for path in (f"/p/{code}", f"/v1/pair/{code}/skill"):
        shown = ask("GET", path, headers={**BROWSER, "Host": host})
        assert shown.status_code == 200
        assert host not in shown.text
        assert "alert(1)" not in shown.text
        assert "--server http://127.0.0.1:3000" in re.sub("</?span>", "", shown.text)


def test_a_hostile_code_is_not_echoed_and_redirects_nowhere_else(ask) -> None:
    hostile = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E"
    shown = ask("GET", f"/p/{hostile}", headers=BROWSER)
    assert shown.status_code == 404
    assert "alert(1)" not in shown.text
    moved = ask("GET", "/p/x%0d%0aSet-Cookie:%20a=b")
    assert moved.status_code == 301
    assert moved.headers["location"] == "/v1/pair/x%0D%0ASet-Cookie%3A%20a%3Db/skill"


def test_what_is_inserted_is_escaped_even_if_a_check_before_should_fail() -> None:
    page = pages.invitation('http://x"><img>', "<b>", "<i>")
    for raw in ('"><img>', "<b>", "<i>"):
        assert raw not in page


def test_every_state_of_a_code_has_its_words() -> None:
    for state in ("claimed", "expired", "unknown"):
        assert "ask whoever sent it" in pages.over(state).lower()
        assert "ask whoever sent it" in skill.over(state).lower()


@pytest.mark.slow
def test_a_real_browser_runs_the_script_that_the_policy_allows(relay, tmp_path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser here")
    code = relay.ask("PUT", "/v1/pair", json={"sessionId": relay.session()}).json()["code"]
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    ran = subprocess.run(
        [browser, "--headless", "--no-sandbox", *quiet, "--dump-dom", f"{relay.url}/p/{code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert code in ran.stdout
    assert ran.stdout.count('<button type="button">Copy</button>') == 4
