"""ASGI, with a live server."""
import asyncio
import json
import unittest

import psycopg
from psycopg_pool import AsyncConnectionPool
from support import create_key, one

from pg_apikey.asgi import ApikeyMiddleware, AsyncVerifier, Demand, caller

INVOICES = "SELECT customer FROM api.invoice ORDER BY id"


class Asgi(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.pool = AsyncConnectionPool("user=web", kwargs={"autocommit": True}, min_size=1, open=False)
        await self.pool.open(wait=True)
        self.addAsyncCleanup(self.pool.close)

    def guarded(self, demand=None, during=None, **place):
        """Asks an application that says who asks and what it may see."""
        place = {"schema": "auth", "project": "acme", "scopes": ["invoices:read"], **place}

        async def app(scope, receive, send):
            who = caller(scope)
            if during:
                await during(who)
            rows = []
            if who:
                async with who.transaction(read_only=True) as db:
                    rows = await (await db.execute(INVOICES)).fetchall()
            if scope["type"] == "websocket":
                return await send({"type": "websocket.accept"})
            await send({"type": "http.response.start", "status": 200, "headers": [(b"Vary", b"Accept")]})
            await send({"type": "http.response.body", "body": json.dumps({"name": who and who.key.name, "rows": len(rows)}).encode()})

        middleware = ApikeyMiddleware(app, AsyncVerifier(self.pool, **place), demand)

        async def get(key=None, *, client=("127.0.0.1", 1), kind="http", extensions=None, **headers):
            if key is not None:
                headers["x_api_key"] = key
            raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
            sent = []

            async def receive():
                return {"type": f"{kind}.connect"}

            async def send(message):
                sent.append(message)

            scope = {"type": kind, "path": "/acme/payments", "headers": raw, "client": client, "extensions": extensions or {}}
            await middleware(scope, receive, send)
            if "headers" in sent[0]:
                sent[0]["fields"] = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
            return sent

        return get

    def refused(self, sent, status, code):
        self.assertEqual((sent[0]["status"], json.loads(sent[1]["body"])), (status, {"error": code}))
        return sent[0]["fields"]

    async def test_opens(self):
        """ASGI: a key opens, and the work is known as it"""
        get, key = self.guarded(), create_key()
        for headers in ({"x_api_key": key}, {"authorization": f"Bearer {key}"}):
            start, body = await get(**headers)
            self.assertEqual((start["status"], json.loads(body["body"])["rows"]), (200, 2))
            self.assertEqual(start["fields"]["vary"], "Accept, x-api-key, authorization")
        token = one("SELECT auth.apikey_token_create(%s)", key)
        self.assertEqual((await get(token))[0]["status"], 200)

    async def test_refusals(self):
        """ASGI: refusals"""
        get, key = self.guarded(), create_key()
        self.assertEqual(self.refused(await get(), 401, "missing")["www-authenticate"], "Bearer")
        self.refused(await get("é" * 70), 401, "malformed")
        self.refused(await get(key[:-39] + "x" * 39), 401, "not_found")
        self.refused(await get(create_key("'acme/payments'")), 403, "insufficient_scope")
        one("SELECT auth.apikey_revoke(auth.apikey_id(%s))", key)
        self.refused(await get(key), 401, "revoked")

    async def test_follows(self):
        """ASGI: a demand may follow from the request, asynchronously"""

        async def project(scope):
            await asyncio.sleep(0)
            return scope["path"][1:]

        get = self.guarded(Demand(project=project))
        self.assertEqual((await get(create_key()))[0]["status"], 200)
        self.refused(await get(create_key("'acme/website', scopes => '{*}'")), 401, "wrong_project")
        with self.assertRaises(psycopg.errors.UndefinedObject):
            await self.guarded(owner="nobody")(create_key())

    async def test_limits(self):
        """ASGI: several limits, and a charge afterwards"""
        key = create_key("'acme/website', scopes => '{*}', rate_limit => 2, rate_window => '1 hour'")
        one("SELECT auth.apikey_limit_set('tokens', 1000, '1 day', kind => 'quota', key => auth.apikey_id(%s))", key)

        async def charge(who):
            await who.charge({"tokens": 50})

        get = self.guarded(costs={"tokens": 300}, during=charge)
        self.assertRegex((await get(key))[0]["fields"]["ratelimit"], r'^"key-requests-3600";r=1;t=\d+, "key-tokens-quota-86400";r=700;t=\d+$')
        self.assertRegex((await get(key))[0]["fields"]["ratelimit"], r";r=350;")
        self.assertLessEqual(int(self.refused(await get(key), 429, "rate_limited")["retry-after"]), 1800)

    async def test_address(self):
        """ASGI: the client behind a proxy"""
        key = create_key("'acme/payments', scopes => '{*}', allowed_ips => '{198.51.100.0/24}'")
        get = self.guarded(trusted_proxies=["127.0.0.1"])
        self.assertEqual((await get(key, x_forwarded_for="198.51.100.7"))[0]["status"], 200)
        self.refused(await get(key, x_forwarded_for="198.51.100.7, 203.0.113.1"), 401, "ip_denied")
        self.refused(await get(key, client=None), 401, "ip_denied")

    async def test_optional(self):
        """ASGI: nobody, where that may be"""
        get = self.guarded(optional=True)
        self.assertEqual(json.loads((await get())[1]["body"]), {"name": None, "rows": 0})
        self.refused(await get("nonsense"), 401, "malformed")

    async def test_meanwhile(self):
        """ASGI: revoked between verification and work"""
        key = create_key()

        async def revoke(_):
            one("SELECT auth.apikey_revoke(auth.apikey_id(%s))", key)

        self.refused(await self.guarded(during=revoke)(key), 401, "revoked")

    async def test_websocket(self):
        """ASGI: a web socket"""
        get = self.guarded()
        self.assertEqual((await get(create_key(), kind="websocket"))[0]["type"], "websocket.accept")
        self.assertEqual(await get(kind="websocket"), [{"type": "websocket.close", "code": 1008, "reason": "missing"}])
        sent = await get(kind="websocket", extensions={"websocket.http.response": {}})
        self.assertEqual(sent[0]["type"], "websocket.http.response.start")
        self.refused(sent, 401, "missing")

    async def test_other(self):
        """ASGI: what is no request passes"""
        seen = []

        async def app(scope, receive, send):
            seen.append(scope["type"])

        await ApikeyMiddleware(app, AsyncVerifier(self.pool, project="acme"))({"type": "lifespan"}, None, None)
        self.assertEqual(seen, ["lifespan"])
