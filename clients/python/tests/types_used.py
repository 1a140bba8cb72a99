"""Checked by mypy, not run: what an application with types writes."""
from wsgiref.types import StartResponse, WSGIEnvironment

from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pg_apikey import Demand, Key, Verifier
from pg_apikey.asgi import ApikeyMiddleware as AsgiMiddleware
from pg_apikey.asgi import AsyncVerifier, Receive, Scope, Send
from pg_apikey.asgi import caller as asgi_caller
from pg_apikey.wsgi import ApikeyMiddleware, ApikeyRefused, admit, caller

verifier: Verifier[WSGIEnvironment] = Verifier(
    ConnectionPool(open=False), schema="auth", project=lambda environ: str(environ["PATH_INFO"]), costs={"tokens": 1}
)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    who = caller(environ)
    assert who is not None
    with who.transaction(read_only=True) as db:
        db.execute("SELECT 1")
    who.charge({"tokens": -1})
    try:
        admit(verifier, environ, Demand(min_role="admin"))
    except ApikeyRefused as refused:
        start_response(refused.status_line, list(refused.headers.items()))
        return [refused.body]
    key: Key = who.key
    start_response("200 OK", [])
    return [(key.subject or "").encode()]


wsgi = ApikeyMiddleware(application, verifier, Demand(scopes=["a"]))
wrong_role: Demand[WSGIEnvironment] = Demand(min_role="king")  # type: ignore[arg-type]
wrong_cost: Demand[WSGIEnvironment] = Demand(cost="much")  # type: ignore[arg-type]


async def asgi_application(scope: Scope, receive: Receive, send: Send) -> None:
    who = asgi_caller(scope)
    if who is not None:
        async with who.transaction() as db:
            await db.execute("SELECT 1")


asgi = AsgiMiddleware(asgi_application, AsyncVerifier(AsyncConnectionPool(open=False), owner="shop_app"))
