"""A small API with ASGI: uvicorn asgi:application."""
import json

from psycopg_pool import AsyncConnectionPool

from pg_apikey.asgi import ApikeyMiddleware, AsyncVerifier, caller

pool = AsyncConnectionPool("user=web", kwargs={"autocommit": True}, open=False)  # and PGHOST, PGDATABASE, ...
verifier = AsyncVerifier(pool, schema="auth", project="acme", scopes=["invoices:read"], trusted_proxies=["127.0.0.1"])


async def invoices(scope, receive, send):
    who = caller(scope)
    async with who.transaction() as db:
        rows = await (await db.execute("SELECT customer, amount::float FROM api.invoice ORDER BY id")).fetchall()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps({"caller": who.key.name, "invoices": rows}).encode()})


guarded = ApikeyMiddleware(invoices, verifier)


async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        return await guarded(scope, receive, send)
    while (message := await receive())["type"] != "lifespan.shutdown":
        await pool.open()
        await send({"type": "lifespan.startup.complete"})
    await pool.close()
    await send({"type": "lifespan.shutdown.complete"})
