"""An HTTP API for customers who are rows of a table.
Whose invoices a request reads is the subject of its key, and nothing else."""
import json, os
from wsgiref.simple_server import make_server
from psycopg_pool import ConnectionPool
from pg_apikey.wsgi import ApikeyMiddleware, Verifier, caller

pool = ConnectionPool(kwargs={"autocommit": True})  # PGHOST, PGDATABASE, PGUSER, PGPASSWORD
verifier = Verifier(pool, schema="auth", owner="shop_app", scopes=["invoices:read"])

def invoices(environ, start_response):
    customer = caller(environ).key.subject
    with pool.connection() as db:
        rows = db.execute("SELECT id, amount::float FROM invoice WHERE customer = %s ORDER BY id", (customer,)).fetchall()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([dict(zip(("id", "amount"), row)) for row in rows]).encode() + b"\n"]

make_server("127.0.0.1", int(os.environ.get("PORT", 3000)), ApikeyMiddleware(invoices, verifier)).serve_forever()
