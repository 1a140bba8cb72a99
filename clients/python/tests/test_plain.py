"""What needs no database."""
import json
import unittest
from dataclasses import replace

import support  # noqa: F401  where the package is

from pg_apikey import ApikeyRefused, Demand, Verifier, bare_address, client_address, rate_limit_fields, trusting
from pg_apikey.credential import key_of, offer
from pg_apikey.verdict import asking

KEY = "ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk"
TOKEN = f"ak_t_{'A' * 60}"


class Plain(unittest.TestCase):
    def test_offer(self):
        """a key is sent as its handle and digest, a token as it is, other texts not at all"""
        handle, digest = offer(KEY)
        self.assertEqual((handle, len(digest)), ("ak_02wRkw0VOLV5IXCz2Z5e9v", 32))
        self.assertEqual(offer(TOKEN), (TOKEN, None))
        self.assertEqual(offer(""), ("", None))
        for text in ("nonsense", f"{KEY}, {KEY}", f"{KEY}\n", KEY[:-1], "x" * 100_000, KEY[:-1] + "é"):
            self.assertEqual(offer(text), ("-", None))

    def test_key_of(self):
        """the header comes before a Bearer token"""

        def of(headers, optional=False):
            return key_of(headers.get, "x-api-key", optional)

        self.assertEqual(of({"x-api-key": " a ", "authorization": "Bearer b"}), "a")
        self.assertEqual(of({"x-api-key": "", "authorization": "bearer  b "}), "b")
        self.assertEqual(of({"authorization": "Basic b"}), "")
        self.assertEqual(of({"authorization": "Bearer eyJ.x.y"}), "eyJ.x.y")
        self.assertEqual(of({"authorization": "Bearer eyJ.x.y"}, True), "")
        self.assertEqual(of({"authorization": f"Bearer {TOKEN}"}, True), TOKEN)

    def test_bare_address(self):
        """addresses lose port, brackets and zone"""
        for text, address in {
            "192.0.2.1": "192.0.2.1", "192.0.2.1:80": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
            "[2001:db8::1]:443": "2001:db8::1", "fe80::1%eth0": "fe80::1", "2001:db8::1": "2001:db8::1",
            "unknown": None, "": None, "1.2.3": None, "'": None, None: None,
        }.items():
            self.assertEqual(bare_address(text), address)

    def test_client_address(self):
        """what a client writes into X-Forwarded-For is not believed"""
        trusted = trusting(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])
        for peer, forwarded, address in [
            ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
            ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("::ffff:10.1.1.1", "203.0.113.7, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
            ("fd00::1", "198.51.100.1:4711", "198.51.100.1"),
            ("127.0.0.1", "10.0.0.2", "10.0.0.2"),
            ("127.0.0.1", "198.51.100.1, unknown", None),
            ("127.0.0.1", None, "127.0.0.1"),
            (None, "198.51.100.1", None),
        ]:
            self.assertEqual(client_address(peer, forwarded, trusted), address)
        self.assertRaises(ValueError, trusting, ["10.0.0.0/33"])
        self.assertRaises(ValueError, trusting, ["loopback"])
        self.assertRaises(TypeError, trusting, "10.0.0.0/8")

    def test_rate_limit_fields(self):
        """each limit has its item"""
        now = 1767225600.0  # 2026-01-01
        limit = {"holder": "key", "unit": "requests", "kind": "rate", "amount": 60, "period_seconds": 60,
                 "remaining": 59, "resets_at": "2026-01-01T00:00:01+00:00"}
        self.assertEqual(rate_limit_fields([], now), {})
        self.assertEqual(
            rate_limit_fields([
                limit,
                {**limit, "kind": "balance", "amount": None, "period_seconds": None, "resets_at": None},
                {**limit, "holder": "subject", "unit": "tokens", "kind": "quota", "amount": 2**53, "period_seconds": 86400,
                 "remaining": -5, "resets_at": "2026-01-02T00:00:00+00:00"},
                {**limit, "amount": 7, "period_seconds": 59.5, "resets_at": None},
            ], now),
            {
                "RateLimit-Policy": '"key-requests-60";q=60;w=60, "subject-tokens-quota-86400";q=999999999999999;qu="tokens";w=86400,'
                ' "key-requests-60-2";q=7;w=60',
                "RateLimit": '"key-requests-60";r=59;t=1, "subject-tokens-quota-86400";r=0;t=86400, "key-requests-60-2";r=59',
            })

    def test_refusal(self):
        """a refusal is a response"""
        self.assertEqual(ApikeyRefused("rate_limited", now=1767225600.0, retry_at="2026-01-01T00:00:02.1+00:00").headers["Retry-After"], "3")
        self.assertNotIn("Retry-After", ApikeyRefused("exhausted").headers)
        self.assertEqual(ApikeyRefused("unavailable").headers["Retry-After"], "5")
        self.assertEqual(ApikeyRefused("missing").headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(ApikeyRefused("revoked").headers["WWW-Authenticate"], 'Bearer error="invalid_token"')
        self.assertEqual(ApikeyRefused("insufficient_scope", scopes=["a:b", "c"]).headers["WWW-Authenticate"],
                         'Bearer error="insufficient_scope", scope="a:b c"')
        self.assertEqual(ApikeyRefused("insufficient_scope", scopes=['"é']).headers["WWW-Authenticate"], 'Bearer error="insufficient_scope"')
        refused = ApikeyRefused("forbidden")
        self.assertEqual((refused.status_line, json.loads(refused.body)), ("403 Forbidden", {"error": "forbidden"}))

    def test_whose(self):
        """nobody forgets to say whose keys, and no demand is dropped by mistake"""
        verifier = Verifier(None)
        self.assertRaisesRegex(TypeError, "whose keys", verifier.demanding)
        self.assertRaises(TypeError, Demand, scopes="invoices:read")
        nothing = {"project": None, "owner": "", "scopes": None, "min_role": None, "cost": None, "costs": None}
        for demand in (Demand(project=lambda _: None), Demand(owner=lambda _: "")):
            self.assertRaises(TypeError, asking, verifier.demanding(demand), nothing, None, True)
        some = {**nothing, "project": "acme"}
        for demand, value in ((Demand(scopes=lambda _: None), None), (Demand(scopes=lambda _: "a"), "a"), (Demand(scopes=lambda _: [1]), [1])):
            self.assertRaises(TypeError, asking, verifier.demanding(replace(demand, project="acme")), {**some, "scopes": value}, None, True)
        self.assertRaises(TypeError, asking, Demand(project="acme", min_role=lambda _: None), some, None, True)
        self.assertEqual(asking(Demand(project="acme"), some, None, True)["scopes"], [])
        self.assertRaises(TypeError, Verifier, None, timeout=0)
