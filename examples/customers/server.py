"""An HTTP API for customers who are rows of a table: psycopg 3, nothing else.
Whose invoices a request reads is the subject of its key, and nothing else."""
import hashlib, json, os, re
from datetime import datetime, timezone
from wsgiref.simple_server import make_server
import psycopg

STATUS = {"forbidden": "403 Forbidden", "insufficient_role": "403 Forbidden", "insufficient_scope": "403 Forbidden",
          "rate_limited": "429 Too Many Requests", "exhausted": "429 Too Many Requests", "unavailable": "503 Service Unavailable"}
KEY = re.compile("[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}")
TOKEN = re.compile("[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40,480}")
db = psycopg.connect(autocommit=True)  # PGHOST, PGDATABASE, PGUSER, PGPASSWORD

def verify(key, scope, address):
    # PostgreSQL gets the key's first part and a digest, so no log can hold the key.
    # A token goes as it is; what is neither is not passed on.
    handle, digest = key if TOKEN.fullmatch(key) or not key else "-", None
    if KEY.fullmatch(key):
        handle, digest = key[:-39], hashlib.sha256(key.encode()).digest()
    return db.execute("""SELECT valid, code, subject, rate_reset_at
                         FROM auth.apikey_verify_digest(%s, %s, owner => 'shop_app', scopes => ARRAY[%s],
                             client_addr => %s::inet)""",
                      (handle, digest, scope, address)).fetchone()

def application(environ, start_response):
    valid, code, customer, reset_at = verify(environ.get("HTTP_X_API_KEY", ""), "invoices:read", environ["REMOTE_ADDR"])
    headers = [("Content-Type", "application/json")]
    if valid:
        status = "200 OK"
        rows = db.execute("SELECT id, amount::float FROM invoice WHERE customer = %s ORDER BY id", (customer,))
        body = [dict(zip(("id", "amount"), row)) for row in rows]
    else:
        status, body = STATUS.get(code, "401 Unauthorized"), {"error": code}
        if reset_at:
            wait = (reset_at - datetime.now(timezone.utc)).total_seconds()
            headers.append(("Retry-After", str(max(1, round(wait + 0.5)))))
    start_response(status, headers)
    return [json.dumps(body).encode() + b"\n"]

make_server("127.0.0.1", int(os.environ.get("PORT", 3000)), application).serve_forever()
