"""JSON as text: taken apart without decoding it, and made safe to print.

A peer's message passes through nexusd as the text it came as: numbers keep their digits, unknown fields stay. What is
taken apart here is only the outermost level, so no depth of nesting can hurt.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

# Control, invisible, bidirectional and tag characters, line separators and lone surrogates: what could move a cursor,
# hide text or cut a line. Letters stay readable.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Possessive, for a string of many escapes would cost 64 bytes of memory for each; a lone " begins a string without end.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}:,]', re.DOTALL)
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ENDLESS = re.compile(rb"(?<![0-9])[0-9]{1000}")  # Python reads no whole number of more than 4,300 digits
DEEPEST = 250  # levels; jq 1.6 reads 256, Python as many as its stack has room for at the moment
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)

Fields = dict[str, bytes]


def escaped(text: str) -> str:
    """JSON text with every unsafe character as an escape, and on one line."""
    return _UNSAFE.sub(_escape, text)


def quoted(text: str) -> bytes:
    """A Python string as JSON text, safe to print."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return b'"%b"' % text.encode()  # most are: names, ids, times
    return escaped(json.dumps(text, ensure_ascii=False)).encode()


def fields(data: bytes) -> Fields:
    """A JSON object's members: name -> JSON text, escaped. ValueError if `data` is not one whole valid JSON object."""
    data = escaped(data.decode()).encode()
    if data.count(b"[") + data.count(b"{") > DEEPEST and _is_too_deep(data):
        raise ValueError("nested too deeply")
    if _ENDLESS.search(data) and _ENDLESS.search(_STRINGS.sub(b'""', data)):
        raise ValueError("a number too long to be read")
    try:
        return {name: bytes(value) for name, value in _FIELDS.decode(data).items()}
    except (msgspec.DecodeError, RecursionError):
        pass  # msgspec is stricter than JSON about lone surrogates, which peers do send: look again, more slowly
    try:
        value = json.loads(data, parse_constant=_refuse, parse_int=str, parse_float=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the data is wrong, not the caller
    return {name: value for name, value in split(data) if name is not None}


def elements(data: bytes, *, cut: bool = False) -> list[bytes]:
    """A JSON array's elements as JSON text, though one be undecodable; of a `cut` array those that are whole."""
    if not data.startswith(b"["):
        raise ValueError("not an array")
    return [value for _, value in split(data, cut=cut)]


def split(data: bytes, *, cut: bool = False) -> Iterator[tuple[str | None, bytes]]:
    """The outermost members of an object or an array, without validating what is in them: (name or None, JSON text).

    ValueError at an end without a closing bracket, unless the text is known to be `cut`.
    """
    depth, begin, name, last = 0, 0, None, b""
    for token in _tokens(data):
        what = token.group()
        if what in b"[{":
            depth += 1
            if depth == 1:
                begin = token.end()
        elif depth == 1 and what == b":":
            name, begin = string(last), token.end()
        elif what in b"]}," and depth == 1:
            if text := data[begin : token.start()].strip():
                yield name, text
            name, begin = None, token.end()
        if what in b"]}":
            depth -= 1
            if depth == 0:
                return
        last = what
    if not cut:
        raise ValueError("it ends too early")


def remainder(data: bytes, name: str) -> bytes:
    """The text behind `"name":` at the outermost level of an object that may be cut, or nothing."""
    depth, last = 0, b""
    for token in _tokens(data):
        what = token.group()
        if what in b"[{":
            depth += 1
        elif what in b"]}":
            depth -= 1
        elif what == b":" and depth == 1 and string(last) == name:
            return data[token.end() :].lstrip()
        last = what
    return b""


def string(text: bytes | None) -> str | None:
    """A JSON string's value, or None for anything else."""
    if text is None:
        return None
    try:
        return _STRING.decode(text)
    except (ValueError, RecursionError):
        pass  # no string, or one with half of a surrogate pair
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def _tokens(data: bytes) -> Iterator[re.Match[bytes]]:
    """Strings and structure, up to a string that was cut: what is in it is no structure."""
    for token in _TOKEN.finditer(data):
        if token.group() == b'"':
            return
        yield token


def _is_too_deep(data: bytes) -> bool:
    depth = 0
    for token in _tokens(data):
        what = token.group()
        depth += (what in b"[{") - (what in b"]}")
        if depth > DEEPEST:
            return True
    return False


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in "\t\n\r":
        return " "  # raw in JSON text they can only be white space between tokens
    code = ord(char)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
