"""A verification that failed, as a response."""
from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from .headers import seconds_until

if TYPE_CHECKING:
    from .verdict import Key

# 403: the key is good here, but may not do this.  Every other refusal is 401.
STATUS = {
    "forbidden": 403,
    "insufficient_role": 403,
    "insufficient_scope": 403,
    "rate_limited": 429,
    "exhausted": 429,
    "unavailable": 503,
}
RETRY = 5  # seconds, where nobody knows
SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def status_of(code: str) -> int:
    """The status of a code."""
    return STATUS.get(code, 401)


def _challenge(code: str, scopes: Sequence[str]) -> str:
    """WWW-Authenticate, as RFC 6750 has it."""
    if code == "missing":
        return "Bearer"
    if code != "insufficient_scope":
        return 'Bearer error="invalid_token"'
    told = bool(scopes) and all(SCOPE.fullmatch(scope) for scope in scopes)
    return 'Bearer error="insufficient_scope"' + (f', scope="{" ".join(scopes)}"' if told else "")


class ApikeyRefused(Exception):
    """A key that was refused: code, status, headers and body of the response."""

    def __init__(
        self,
        code: str,
        *,
        key: Key | None = None,
        scopes: Sequence[str] = (),
        fields: Mapping[str, str] | None = None,
        retry_at: str | None = None,
        now: float | None = None,
    ) -> None:
        super().__init__(f"API key refused: {code}")
        self.code = code
        self.status = status_of(code)
        self.key = key
        self.headers = {**(fields or {}), "Content-Type": "application/json", "Cache-Control": "no-store"}
        if self.status == 401 or code == "insufficient_scope":
            self.headers["WWW-Authenticate"] = _challenge(code, scopes)
        if self.status == 429 and retry_at is not None:
            self.headers["Retry-After"] = str(seconds_until(retry_at, time.time() if now is None else now))
        if self.status == 503:
            self.headers["Retry-After"] = str(RETRY)
        self.body = json.dumps({"error": code}).encode() + b"\n"

    @property
    def status_line(self) -> str:
        """As WSGI wants it: "401 Unauthorized"."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"
