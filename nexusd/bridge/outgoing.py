"""From a dropped file to a message: pure, and every refusal says what to do."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from nexusd.errors import Refusal


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send: text, a JSON payload, or both."""

    text: str | None = None
    payload: Any = None

    def as_text(self) -> Outgoing:
        """For a server that takes no `json`: the payload written out, behind the text if there is one."""
        if self.payload is None:
            return self
        written = json.dumps(self.payload, ensure_ascii=False, allow_nan=False)
        return Outgoing(written if self.text is None else f"{self.text}\n{written}")

    def holds(self) -> str:
        """All it says, for a look at secrets."""
        return f"{self.text or ''}\n{json.dumps(self.payload, ensure_ascii=False) if self.payload is not None else ''}"


def read(name: str, data: bytes, limit: int) -> Outgoing:
    """The message in a file's bytes; the name says its form. Refusal."""
    if len(data) > limit:
        raise Refusal("too_large", f"it is larger than max_message_bytes ({limit})", "split it, or send where it is")
    if not data:
        raise Refusal("empty", "it is empty", "write the text first, under a name that ends in .tmp, then rename it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise Refusal("not_text", f"it is not UTF-8 (byte {fault.start})", "convert it, or send it as base64") from None
    if "\0" in text:
        raise Refusal("not_text", "it holds a NUL: it is binary, or UTF-16", "convert it, or send it as base64")
    if name.endswith(".msg.json"):
        return _envelope(_parsed(text))
    if name.endswith(".json"):
        payload = _parsed(text)
        if payload is None:
            raise Refusal("empty", "it is null, which says nothing", "drop an object, a list, a string or a number")
        return Outgoing(payload=payload)
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Refusal(
            "empty", "it is an empty line", "write the text first, under a name ending in .tmp, then rename it"
        )
    return Outgoing(text=text)


def _envelope(value: Any) -> Outgoing:
    remedy = 'write {"text": "...", "json": ...} with one of them or both'
    if not isinstance(value, dict):
        raise Refusal("bad_envelope", "a .msg.json file holds an object", remedy)
    if extra := value.keys() - {"text", "json"}:
        raise Refusal("bad_envelope", f"it has unknown members: {', '.join(sorted(extra))[:100]}", remedy)
    text, payload = value.get("text"), value.get("json")
    if text is not None and not isinstance(text, str):
        raise Refusal("bad_envelope", "its text is not a string", remedy)
    if not text and payload is None:
        raise Refusal("empty", "it has neither a text nor a json", remedy)
    return Outgoing(text or None, payload)


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        reason = "it is nested too deeply"
    except UnicodeEncodeError:
        reason = "it holds half of a surrogate pair"
    except ValueError as fault:
        reason = str(fault)[:200]
    else:
        return value
    raise Refusal("not_json", f"its name says JSON, but {reason}", "mend it, or give it a name without .json")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return number
