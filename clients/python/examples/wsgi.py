"""A small API with WSGI."""
import json
import os
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from psycopg_pool import ConnectionPool

from pg_apikey.wsgi import ApikeyMiddleware, Verifier, caller

pool = ConnectionPool("user=web", kwargs={"autocommit": True})  # and PGHOST, PGDATABASE, ...
verifier = Verifier(pool, schema="auth", project="acme", scopes=["invoices:read"], trusted_proxies=["127.0.0.1"])


def invoices(environ, start_response):
    who = caller(environ)
    with who.transaction() as db:
        rows = db.execute("SELECT customer, amount::float FROM api.invoice ORDER BY id").fetchall()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"caller": who.key.name, "invoices": rows}).encode()]


application = ApikeyMiddleware(invoices, verifier)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", 3000)), application, server_class=Server).serve_forever()
