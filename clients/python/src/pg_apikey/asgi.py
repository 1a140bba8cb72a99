"""ASGI: middleware, and what a framework above ASGI calls itself."""
from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .refusal import ApikeyRefused
from .verdict import Demand
from .verifier import AsyncCaller, AsyncVerifier

__all__ = ["ApikeyMiddleware", "ApikeyRefused", "AsyncCaller", "AsyncVerifier", "Demand", "admit", "caller"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAME = "pg_apikey.caller"


def caller(scope: Scope) -> AsyncCaller | None:
    """Whoever asks, behind the middleware; None for nobody."""
    found: AsyncCaller | None = scope[NAME]
    return found


async def admit(verifier: AsyncVerifier[Any], scope: Scope, demand: Demand[Any] | None = None) -> AsyncCaller | None:
    """Whoever asks, or None where that may be; raises ApikeyRefused.

    For a route of Starlette or FastAPI that demands more, or otherwise.
    """

    def header(name: str) -> str | None:
        wanted = name.encode("latin-1")
        values = [value.decode("latin-1") for found, value in scope["headers"] if found.lower() == wanted]
        return ", ".join(values) if values else None

    peer = scope.get("client")
    return await verifier.admit(header, peer[0] if peer else None, verifier.demanding(demand), scope)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class ApikeyMiddleware:
    """Lets requests and web sockets pass by their key; caller(scope) is who asks."""

    def __init__(self, app: App, verifier: AsyncVerifier[Scope], demand: Demand[Scope] | None = None) -> None:
        self._app = app
        self._verifier = verifier
        self._demand = verifier.demanding(demand)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        verifier = self._verifier
        started = False
        try:
            found = await admit(verifier, scope, self._demand)
            fields = _encoded({} if found is None else found.headers)

            async def send_more(message: Message) -> None:
                nonlocal started
                if message["type"] in ("http.response.start", "websocket.accept"):
                    started = True
                    headers = list(message.get("headers", []))
                    vary = b", ".join(value for name, value in headers if name.lower() == b"vary").decode("latin-1")
                    headers = [(name, value) for name, value in headers if name.lower() != b"vary"]
                    message = {**message, "headers": [*headers, *_encoded({"vary": verifier.vary(vary)}), *fields]}
                await send(message)

            await self._app({**scope, NAME: found}, receive, send_more)
        except ApikeyRefused as refused:
            if started:
                raise
            await self._refuse(refused, scope, receive, send)
        return None

    async def _refuse(self, refused: ApikeyRefused, scope: Scope, receive: Receive, send: Send) -> None:
        kind = "http"
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            if "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1008, "reason": refused.code})
                return
            kind = "websocket.http"
        headers = {**refused.headers, "Vary": self._verifier.vary(None), "Content-Length": str(len(refused.body))}
        await send({"type": f"{kind}.response.start", "status": refused.status, "headers": _encoded(headers)})
        await send({"type": f"{kind}.response.body", "body": refused.body})
