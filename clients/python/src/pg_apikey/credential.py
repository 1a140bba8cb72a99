"""What a request offers, as the database is told it: a handle and a digest."""
import hashlib
import re
from collections.abc import Callable
from typing import NamedTuple

KEY = re.compile(r"[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}")
TOKEN = re.compile(r"[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40,480}")
BEARER = re.compile(r"bearer +(.*)", re.IGNORECASE)
SECRET = 39  # characters at a key's end: its secret and its checksum


class Offer(NamedTuple):
    """A key without its secret and its SHA-256; a token; or nothing."""

    handle: str
    digest: bytes | None


def offer(text: str) -> Offer:
    """A key as its handle and digest, so that the server never sees the key.

    A token goes as it is.  What has not the shape of one, as two headers that
    arrive as one text, is not passed on: "-" is no key.
    """
    if KEY.fullmatch(text):
        return Offer(text[:-SECRET], hashlib.sha256(text.encode("ascii")).digest())
    return Offer(text if text == "" or TOKEN.fullmatch(text) else "-", None)


def key_of(header: Callable[[str], str | None], name: str, optional: bool) -> str:
    """The key of a request, "": none.  The header's, else a Bearer token.

    Where a key is optional, a Bearer token of another shape, a JWT say, is not
    ours.
    """
    key = (header(name) or "").strip()
    if key:
        return key
    found = BEARER.fullmatch((header("authorization") or "").strip())
    bearer = found[1].strip() if found else ""
    if optional and not (KEY.fullmatch(bearer) or TOKEN.fullmatch(bearer)):
        return ""
    return bearer
