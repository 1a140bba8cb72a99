"""WSGI: middleware, and what a framework above WSGI calls itself."""
from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .refusal import ApikeyRefused
from .verdict import Demand
from .verifier import Caller, Verifier

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ApikeyMiddleware", "ApikeyRefused", "Caller", "Demand", "Verifier", "admit", "caller"]

NAME = "pg_apikey.caller"


def caller(environ: WSGIEnvironment) -> Caller | None:
    """Whoever asks, behind the middleware; None for nobody."""
    found: Caller | None = environ[NAME]
    return found


def admit(verifier: Verifier[Any], environ: WSGIEnvironment, demand: Demand[Any] | None = None) -> Caller | None:
    """Whoever asks, or None where that may be; raises ApikeyRefused.

    For a route of Flask or Django that demands more, or otherwise.
    """

    def header(name: str) -> str | None:
        return environ.get("HTTP_" + name.upper().replace("-", "_"))

    return verifier.admit(header, environ.get("REMOTE_ADDR"), verifier.demanding(demand), environ)


class ApikeyMiddleware:
    """Lets requests pass by their key; caller(environ) is then who asks."""

    def __init__(self, app: WSGIApplication, verifier: Verifier[WSGIEnvironment], demand: Demand[WSGIEnvironment] | None = None) -> None:
        self._app = app
        self._verifier = verifier
        self._demand = verifier.demanding(demand)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        verifier = self._verifier
        try:
            found = environ[NAME] = admit(verifier, environ, self._demand)
        except ApikeyRefused as refused:
            return self._refuse(refused, start_response)
        fields = {} if found is None else found.headers

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            vary = ", ".join(value for name, value in headers if name.lower() == "vary")
            headers = [(name, value) for name, value in headers if name.lower() != "vary"]
            headers += [("Vary", verifier.vary(vary)), *fields.items()]
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        try:
            return self._app(environ, start)
        except ApikeyRefused as refused:  # revoked a moment ago
            return self._refuse(refused, start_response)

    def _refuse(self, refused: ApikeyRefused, start_response: StartResponse) -> Iterable[bytes]:
        more = [("Vary", self._verifier.vary(None)), ("Content-Length", str(len(refused.body)))]
        # The application may have begun a response that is not sent yet.
        start_response(refused.status_line, [*refused.headers.items(), *more], sys.exc_info())
        return [refused.body]
