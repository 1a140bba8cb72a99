"""The invoices of whoever has a key for them: psycopg 3, nothing else."""
import hashlib, json, os, re
from wsgiref.simple_server import make_server
import psycopg

STATUS = {"forbidden": "403 Forbidden", "insufficient_role": "403 Forbidden", "insufficient_scope": "403 Forbidden",
          "rate_limited": "429 Too Many Requests", "exhausted": "429 Too Many Requests", "unavailable": "503 Service Unavailable"}
db = psycopg.connect(user="web", autocommit=True)  # and PGHOST, PGDATABASE, ...

def invoices(environ, start_response):
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    key = environ.get("HTTP_X_API_KEY") or (token.strip() if scheme.lower() == "bearer" else "")
    if re.fullmatch("[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}", key):  # PostgreSQL, and its log, get the handle only
        credential = (key[:-39], hashlib.sha256(key.encode()).digest())
    else:  # a token goes as it is; what is neither, two headers, say, is not passed on
        token = re.fullmatch("[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40,480}", key)
        credential = (key if token or not key else "-", None)
    try:
        with db.transaction():  # known as the key to its end
            db.execute("""SELECT auth.apikey_authenticate_digest(%s, %s, project => 'acme',
                              scopes => '{invoices:read}', client_addr => %s::inet)""",
                       (*credential, environ["REMOTE_ADDR"]))
            rows = db.execute("SELECT id, customer, amount::float FROM api.invoice ORDER BY id").fetchall()
        status, body = "200 OK", [dict(zip(("id", "customer", "amount"), row)) for row in rows]
    except psycopg.errors.InvalidAuthorizationSpecification as refused:
        code = refused.diag.message_detail
        status, body = STATUS.get(code, "401 Unauthorized"), {"error": code}
    start_response(status, [("Content-Type", "application/json")] + ([("WWW-Authenticate", "Bearer")] if status[:3] == "401" else []))
    return [json.dumps(body).encode()]

make_server("127.0.0.1", int(os.environ.get("PORT", 3000)), invoices).serve_forever()
