"""WSGI, with a live server."""
import json

from support import LiveTest, create_key, one

from pg_apikey.wsgi import ApikeyMiddleware, Demand, Verifier, caller

INVOICES = "SELECT customer FROM api.invoice ORDER BY id"


class Response:
    def __init__(self, status, headers, body):
        self.status = int(status[:3])
        self.fields = {name.lower(): value for name, value in headers}
        self.body = json.loads(body)


class Wsgi(LiveTest):
    def guarded(self, demand=None, during=lambda who: None, **place):
        """Asks GET / of an application that says who asks and what it may see."""
        place = {"schema": "auth", "project": "acme", "scopes": ["invoices:read"], **place}

        def app(environ, start_response):
            who = caller(environ)
            during(who)
            rows = []
            if who:
                with who.transaction() as db:
                    rows = db.execute(INVOICES).fetchall()
            start_response("200 OK", [("Vary", "Accept")])
            return [json.dumps({"name": who and who.key.name, "rows": len(rows)}).encode()]

        middleware = ApikeyMiddleware(app, Verifier(self.pool, **place), demand)

        def get(key=None, **environ):
            sent = []
            environ.setdefault("REMOTE_ADDR", "127.0.0.1")
            if key is not None:
                environ["HTTP_X_API_KEY"] = key
            body = b"".join(middleware(environ, lambda *args: sent.append(args)))
            return Response(*sent[-1][:2], body)

        return get

    def refused(self, response, status, code):
        self.assertEqual((response.status, response.body), (status, {"error": code}))
        self.assertEqual(response.fields["cache-control"], "no-store")
        return response

    def test_opens(self):
        """WSGI: a key opens, and the work is known as it"""
        get, key = self.guarded(), create_key()
        for environ in ({"HTTP_X_API_KEY": key}, {"HTTP_AUTHORIZATION": f"Bearer {key}"},
                        {"HTTP_X_API_KEY": "", "HTTP_AUTHORIZATION": f"bearer {key}"}):
            response = get(**environ)
            self.assertEqual((response.status, response.body["rows"]), (200, 2))
            self.assertEqual(response.fields["vary"], "Accept, x-api-key, authorization")
            self.assertNotIn("ratelimit", response.fields)
        self.assertEqual(one("SELECT use_count FROM auth.apikeys WHERE id = auth.apikey_id(%s)", key), 3)

    def test_token(self):
        """WSGI: a token opens like its key"""
        get, key = self.guarded(), create_key()
        token = one("SELECT auth.apikey_token_create(%s)", key)
        self.assertEqual(get(token).body["rows"], 2)
        self.refused(get(token[:-6] + "000000"), 401, "malformed")
        one("SELECT auth.apikey_revoke(auth.apikey_id(%s))", key)
        self.refused(get(token), 401, "revoked")

    def test_refusals(self):
        """WSGI: refusals"""
        get, key = self.guarded(), create_key()
        self.assertEqual(self.refused(get(), 401, "missing").fields["www-authenticate"], "Bearer")
        self.assertEqual(self.refused(get("nonsense"), 401, "malformed").fields["www-authenticate"], 'Bearer error="invalid_token"')
        self.refused(get(f"{key},{key}"), 401, "malformed")
        self.refused(get(key[:-39] + "x" * 39), 401, "not_found")
        self.refused(get(create_key("NULL, scopes => '{*}'")), 401, "wrong_project")
        narrow = create_key("'acme/payments', scopes => '{other}'")
        self.assertEqual(self.refused(get(narrow), 403, "insufficient_scope").fields["www-authenticate"],
                         'Bearer error="insufficient_scope", scope="invoices:read"')
        one("SELECT auth.apikey_revoke(auth.apikey_id(%s))", key)
        self.refused(get(key), 401, "revoked")

    def test_whose(self):
        """WSGI: whose key, which role"""
        personal = create_key("NULL, scopes => '{*}'")
        owner = one("SELECT current_user::text")
        developer = create_key("'acme/payments', scopes => '{*}', role => 'developer'")
        by_owner = self.guarded(project=None, owner=owner)
        self.assertEqual(by_owner(personal).status, 200)
        self.refused(by_owner(developer), 401, "wrong_owner")
        self.refused(self.guarded(min_role="admin")(developer), 403, "insufficient_role")
        # A role that is not there is a mistake, and never anybody's key.
        import psycopg
        self.assertRaises(psycopg.errors.UndefinedObject, self.guarded(project=None, owner='nobody "here"'), personal)
        self.assertRaises(TypeError, self.guarded(project=lambda environ: None), personal)

    def test_follows(self):
        """WSGI: a demand may follow from the request"""
        key = create_key("'acme/website', scopes => '{a}'")
        get = self.guarded(Demand(project=lambda environ: environ["PATH_INFO"][1:], scopes=lambda environ: ["a"]))
        self.assertEqual(get(key, PATH_INFO="/acme/website").status, 200)
        self.refused(get(key, PATH_INFO="/acme/payments"), 401, "wrong_project")

    def test_limits(self):
        """WSGI: several limits, and a charge afterwards"""
        key = create_key("'acme/website', scopes => '{*}', rate_limit => 3, rate_window => '1 hour', credits => 100")
        one("SELECT auth.apikey_limit_set('tokens', 1000, '1 day', kind => 'quota', key => auth.apikey_id(%s))", key)
        get = self.guarded(costs={"tokens": 300})
        first = get(key)
        self.assertEqual(first.fields["ratelimit-policy"],
                         '"key-requests-3600";q=3;w=3600, "key-tokens-quota-86400";q=1000;qu="tokens";w=86400')
        self.assertRegex(first.fields["ratelimit"], r'^"key-requests-3600";r=2;t=\d+, "key-tokens-quota-86400";r=700;t=\d+$')
        get(key)
        self.assertEqual(get(key).status, 200)
        fourth = self.refused(get(key), 429, "rate_limited")
        self.assertRegex(fourth.fields["ratelimit"], r'^"key-requests-3600";r=0;t=\d+$')
        self.assertTrue(1000 < int(fourth.fields["retry-after"]) <= 1200)
        self.refused(self.guarded(cost=0, costs={"tokens": 300})(key), 429, "exhausted")
        self.assertNotIn("ratelimit", self.guarded(cost=0, rate_limit_fields=False)(key).fields)
        chosen = self.guarded(cost=0, rate_limit_fields=lambda limit: limit["unit"] == "tokens", during=lambda who: who.charge({"tokens": -250}))
        chosen(key)
        self.assertRegex(chosen(key).fields["ratelimit"], r'^"key-tokens-quota-86400";r=350;')

    def test_address(self):
        """WSGI: the client behind a proxy"""
        key = create_key("'acme/payments', scopes => '{*}', allowed_ips => '{198.51.100.0/24}'")
        get = self.guarded(trusted_proxies=["127.0.0.1"])
        self.assertEqual(get(key, HTTP_X_FORWARDED_FOR="198.51.100.7").status, 200)
        self.refused(get(key, HTTP_X_FORWARDED_FOR="198.51.100.7, 203.0.113.1"), 401, "ip_denied")
        self.refused(get(key, HTTP_X_FORWARDED_FOR="198.51.100.7, unknown"), 401, "ip_denied")
        self.refused(self.guarded()(key, HTTP_X_FORWARDED_FOR="198.51.100.7"), 401, "ip_denied")
        self.refused(get(key, REMOTE_ADDR=""), 401, "ip_denied")

    def test_optional(self):
        """WSGI: nobody, where that may be"""
        get = self.guarded(optional=True)
        self.assertEqual(get().body, {"name": None, "rows": 0})
        self.assertEqual(get(HTTP_AUTHORIZATION="Bearer eyJ.a.b").body, {"name": None, "rows": 0})
        self.refused(get("nonsense"), 401, "malformed")

    def test_meanwhile(self):
        """WSGI: revoked between verification and work"""
        key = create_key()
        get = self.guarded(during=lambda who: one("SELECT auth.apikey_revoke(auth.apikey_id(%s))", key))
        self.refused(get(key), 401, "revoked")
