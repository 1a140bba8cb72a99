"""Bad days, transactions, and what reaches the server."""
import asyncio
import logging
import os
import time
import unittest

import psycopg
from psycopg_pool import AsyncConnectionPool
from support import LiveTest, Way, create_key, one, until, web_pool

from pg_apikey import ApikeyRefused, AsyncVerifier, Verifier


def admit(pool, key, **place):
    verifier = Verifier(pool, **{"schema": "auth", "project": "acme", **place})
    return verifier.admit({"x-api-key": key}.get, None, verifier.demanding(), None)


def code_of(pool, key, **place):
    try:
        admit(pool, key, **place)
        return "valid"
    except ApikeyRefused as refused:
        return refused.code


class Database(LiveTest):
    def setUp(self):
        logging.getLogger("pg_apikey").setLevel(logging.CRITICAL)
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)

    def far(self, **more):
        """A pool whose connections can be cut."""
        way = Way()
        self.addCleanup(way.close)
        pool = web_pool(f"user=web host=127.0.0.1 port={way.port}", **more)
        pool.open(wait=True)
        self.addCleanup(pool.close, 1.0)
        return pool, way

    def test_one_trip(self):
        """one round trip and no more, whether the pool's connections commit by themselves or not"""
        for options in ({"autocommit": True}, {}):
            pool, way = self.far(max_size=1, kwargs=options)
            key = create_key()
            admit(pool, key, timeout=60)
            before = way.asked
            admit(pool, key, timeout=60)
            self.assertEqual(way.asked - before, 1)
            with pool.connection() as db:
                self.assertEqual(db.autocommit, options.get("autocommit", False))

    def test_cut(self):
        """a connection that is cut is refused as unavailable, and the pool goes on"""
        pool, way = self.far()
        key = create_key()
        self.assertEqual(code_of(pool, key), "valid")
        way.cut()
        self.assertIn(code_of(pool, key), ("valid", "unavailable"))
        until(lambda: code_of(pool, key) == "valid")

    def test_silent(self):
        """a server that does not answer is unavailable in time, and its connection is given up"""
        pool, way = self.far(max_size=2)
        key = create_key()
        self.assertEqual(code_of(pool, key, timeout=60), "valid")
        way.silence(True)
        start = time.monotonic()
        for _ in range(3):
            self.assertEqual(code_of(pool, key, timeout=0.3), "unavailable")
        self.assertLess(time.monotonic() - start, 30)
        way.silence(False)
        way.cut()
        until(lambda: code_of(pool, key) == "valid")

    def test_used_up(self):
        """a pool that is used up is unavailable in time"""
        with web_pool(max_size=1) as pool:
            with pool.connection():
                self.assertEqual(code_of(pool, create_key(), timeout=0.2), "unavailable")
            self.assertEqual(code_of(pool, create_key(), timeout=60), "valid")

    def test_mistake(self):
        """a mistake of ours is no refusal, and is raised"""
        key = create_key()
        self.assertRaises(psycopg.Error, admit, self.pool, key, schema="nowhere")
        self.assertRaises(psycopg.errors.InvalidParameterValue, admit, self.pool, key, cost=-1)
        self.assertEqual(code_of(self.pool, key), "valid")

    def test_transaction(self):
        """a transaction is known as the key, and nothing is after it"""
        who = "SELECT auth.apikey_current_project()"
        for options in ({"autocommit": True}, {}):
            with web_pool(max_size=1, kwargs=options) as pool:
                caller = admit(pool, create_key("'acme/website', scopes => '{*}'"))
                with caller.transaction() as db:
                    self.assertEqual(db.execute(who).fetchone(), ("acme/website",))
                    db.execute("INSERT INTO api.invoice (customer, amount) VALUES ('kept', 1)")
                with pool.connection() as db:
                    self.assertEqual(db.execute(who).fetchone(), (None,))
                with self.assertRaisesRegex(RuntimeError, "mine"), caller.transaction() as db:
                    db.execute("INSERT INTO api.invoice (customer, amount) VALUES ('undone', 1)")
                    raise RuntimeError("mine")
                with self.assertRaises(psycopg.errors.ReadOnlySqlTransaction), caller.transaction(read_only=True) as db:
                    db.execute("INSERT INTO api.invoice (customer, amount) VALUES ('undone', 1)")
                with self.assertRaises(psycopg.errors.InFailedSqlTransaction), caller.transaction() as db:
                    try:
                        db.execute("SELECT 1/0")
                    except psycopg.Error:
                        pass
                with caller.transaction(isolation="serializable") as db:
                    self.assertEqual(db.execute("SHOW transaction_isolation").fetchone(), ("serializable",))
                with self.assertRaises(TypeError), caller.transaction(isolation="serializable; DROP"):
                    pass
        self.assertEqual(one("SELECT count(*) FROM api.invoice WHERE customer = 'undone'"), 0)
        self.assertEqual(one("WITH gone AS (DELETE FROM api.invoice WHERE customer = 'kept' RETURNING 1) SELECT count(*) FROM gone"), 2)

    def test_last(self):
        """the last request of a limit still does its work"""
        key = create_key("'acme/payments', scopes => '{*}', rate_limit => 1, rate_window => '1 hour'")
        with admit(self.pool, key).transaction() as db:
            self.assertEqual(len(db.execute("SELECT FROM api.invoice").fetchall()), 2)
        self.assertEqual(code_of(self.pool, key), "rate_limited")

    def test_rows(self):
        """whatever the pool's connections make of rows"""
        with web_pool(kwargs={"row_factory": psycopg.rows.dict_row, "cursor_factory": psycopg.ClientCursor}) as pool:
            caller = admit(pool, create_key("'acme/website', expires_at => now() + interval '1 day', metadata => '{\"a\": 1}'"))
            self.assertEqual((caller.key.metadata, caller.key.expires_at.tzinfo is not None), ({"a": 1}, True))

    @unittest.skipUnless(hasattr(os, "fork"), "no fork")
    def test_fork(self):
        """a child that a server has forked waits no longer than its parent"""
        self.assertEqual(code_of(self.pool, create_key()), "valid")
        key = create_key()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                way = Way()
                pool = web_pool(f"user=web host=127.0.0.1 port={way.port}")
                pool.open(wait=True)
                way.silence(True)
                status = 0 if code_of(pool, key, timeout=0.3) == "unavailable" else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


class AsyncDatabase(unittest.IsolatedAsyncioTestCase):
    async def test_silent(self):
        """asyncio: a server that does not answer is unavailable in time, and others do not wait"""
        logging.getLogger("pg_apikey").setLevel(logging.CRITICAL)
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
        way = Way()
        self.addCleanup(way.close)
        pool = AsyncConnectionPool(f"user=web host=127.0.0.1 port={way.port}", min_size=1, max_size=2, open=False)
        await pool.open(wait=True)
        self.addAsyncCleanup(pool.close, 1.0)
        verifier = AsyncVerifier(pool, schema="auth", project="acme", timeout=60)
        key = create_key()

        async def code():
            try:
                await verifier.admit({"x-api-key": key}.get, None, verifier.demanding(), None)
                return "valid"
            except ApikeyRefused as refused:
                return refused.code

        self.assertEqual(await code(), "valid")
        way.silence(True)
        verifier.timeout = 0.5
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        self.assertEqual(await code(), "unavailable")
        ticking.cancel()
        self.assertGreater(ticks, 5)
        way.silence(False)
        way.cut()
        verifier.timeout = 60
        for _ in range(100):
            if await code() == "valid":
                return
            await asyncio.sleep(0.1)
        self.fail("it does not serve again")
