"""The HTML that a pairing link shows to a person. One file, no request to anywhere, readable without its script."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html import escape

from nexusd.relay.pairing import LIFETIME
from nexusd.relay.skill import AGENT, add_command, claim_command, curl_command

_STYLE = """
:root{color-scheme:light dark;--ground:#fbfaf7;--ink:#1d2327;--soft:#5b656d;--line:#dcd8cf;--card:#fff;--mark:#0b6e5f}
@media(prefers-color-scheme:dark){:root{--ground:#14181b;--ink:#e8e6e1;--soft:#9da7ae;--line:#313a40;--card:#1c2226;
--mark:#5fd0bb}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:1.0625rem/1.6 system-ui,sans-serif}
main{max-width:44rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .75rem}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.5rem 0}
.soft{color:var(--soft)}
.code{display:block;margin:1.5rem 0;padding:1rem;border:1px solid var(--line);border-left:.3rem solid var(--mark);
border-radius:.5rem;background:var(--card);font:600 1.35rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.command{position:relative;border:1px solid var(--line);border-radius:.5rem;background:var(--card)}
pre{margin:0;padding:.9rem 1rem;white-space:pre-wrap;overflow-wrap:anywhere;font:.9rem/1.5 ui-monospace,monospace}
pre span{display:inline-block;max-width:100%}
.command+p{margin-top:1rem}
time{white-space:nowrap}
button{display:block;width:100%;min-height:2.75rem;border:0;border-top:1px solid var(--line);
border-radius:0 0 .5rem .5rem;background:none;color:var(--mark);font:600 .95rem system-ui,sans-serif;cursor:pointer}
button[hidden]{display:none}
button:focus-visible{outline:3px solid var(--mark);outline-offset:2px}
"""

# Only an improvement: without it, or where the browser has no clipboard, the buttons stay hidden.
_SCRIPT = """
if(navigator.clipboard)for(const button of document.querySelectorAll("button")){
button.hidden=false;
button.addEventListener("click",async()=>{
try{await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
button.textContent="Copied"}catch{button.textContent="Select the text and copy it"}
setTimeout(()=>{button.textContent="Copy"},2000)})}
"""


def _allowed(inline: str) -> str:
    return f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_allowed(_STYLE)}; script-src {_allowed(_SCRIPT)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of these pages: nothing runs or loads but their own style and script."""

_OVER = {
    "claimed": (
        "This invitation was used",
        "Somebody has claimed the code. A code is good for one agent: ask whoever sent it to you for a new one.",
    ),
    "expired": (
        "This invitation has expired",
        f"A code is good for {LIFETIME / 60:.0f} minutes. Ask whoever sent it to you for a new one.",
    ),
    "unknown": (
        "No such invitation",
        "Check the code letter by letter, or ask whoever sent it to you for a new one: codes do not survive a restart.",
    ),
}


def invitation(origin: str, code: str, expires_at: str) -> str:
    """Build the page of a code that can be claimed until `expires_at` (ISO 8601)."""
    return _page(
        "An invitation to a session between agents",
        f"""<p>Give this link to your agent, or let it run one of the commands below.</p>
<strong class="code">{escape(code)}</strong>
<p class="soft">Good once, until <time datetime="{escape(expires_at)}">{escape(_in_words(expires_at))}</time>. Where
{AGENT} stands write the name that your agent shall have, for NAME what you call the other side. Whoever has this link
can join: pass it on as you would a key.</p>
<h2>With nexusd: the agent reads and writes files</h2>
{_command(add_command(origin, code))}
<h2>With nexus: by hand or in a script</h2>
{_command(claim_command(origin, code))}
<h2>With curl</h2>
{_command(curl_command(origin, code))}
<p class="soft">The answer holds the session's id and a key. How to poll, send and renew with them:</p>
{_command(f"curl -sSL {origin}/p/{code}")}""",
    )


def over(state: str) -> str:
    """Build the page of a code that opens nothing: `claimed`, `expired` or `unknown`."""
    title, why = _OVER[state]
    return _page(title, f"<p>{escape(why)}</p>")


def _command(line: str) -> str:
    # Each word by itself, or a narrow page would break "--server" behind its hyphens.
    words = " ".join(f"<span>{escape(word)}</span>" for word in line.split(" "))
    return f'<div class="command"><pre>{words}</pre><button type="button" hidden>Copy</button></div>'


def _in_words(at: str) -> str:
    """A time in ISO 8601 to the minute, for a person: rounded down, so that it is not too late."""
    try:
        return f"{datetime.fromisoformat(at).astimezone(UTC):%H:%M} UTC"
    except ValueError:
        return at


def _page(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""
