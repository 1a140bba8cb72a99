"""The invoices of whoever has a key for them."""
import json, os
from wsgiref.simple_server import make_server
from psycopg_pool import ConnectionPool
from pg_apikey.wsgi import ApikeyMiddleware, Verifier, caller

pool = ConnectionPool("user=web", kwargs={"autocommit": True})  # and PGHOST, PGDATABASE, ...
verifier = Verifier(pool, schema="auth", project="acme", scopes=["invoices:read"])

def invoices(environ, start_response):
    with caller(environ).transaction() as db:  # known as the key to its end
        rows = db.execute("SELECT id, customer, amount::float FROM api.invoice ORDER BY id").fetchall()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([dict(zip(("id", "customer", "amount"), row)) for row in rows]).encode() + b"\n"]

make_server("127.0.0.1", int(os.environ.get("PORT", 3000)), ApikeyMiddleware(invoices, verifier)).serve_forever()
