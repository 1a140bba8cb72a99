"""Receives a secret scanner's report, revokes the keys in it that are ours, and tells their owners.
A report is [{"token": ..., "type": ..., "url": ...}], signed: x-signature-256: sha256=HMAC of the body."""
import base64, hashlib, hmac, json, os
from wsgiref.simple_server import make_server
import psycopg

SECRET = os.environ["LEAK_SECRET"].encode()
BODY_MAX, FINDS_MAX = 1 << 20, 1000
db = psycopg.connect(user="leaks", autocommit=True)  # and PGHOST, PGDATABASE, ...

def handle(find):
    """True where the text is a key or token of ours: only whoever has its secret gets so far."""
    text, source = str(find.get("token", "")), str(find.get("url") or find.get("type") or "a scanner")
    if "\0" in text:
        return False
    source = "leaked: " + "".join(c for c in source if c.isprintable())[:400]
    with db.transaction():
        key = db.execute("SELECT key_id, name, owner, subject, project FROM auth.apikey_verify(%s, cost => 0)",
                         (text,)).fetchone()  # whosever it is, what it is stands beside the code
        if key[0] is None:
            return False
        revoked = db.execute("SELECT auth.apikey_self_revoke(%s, %s)", (text, source)).fetchone()[0]
        db.execute("""INSERT INTO api.leak (key_id, name, owner, subject, project, source, revoked, owner_id)
                      VALUES (%s, %s, %s, %s, %s, %s, %s, (SELECT oid FROM pg_roles WHERE rolname = %s))""",
                   (*key, source, revoked, key[2]))
        db.execute("SELECT pg_notify('leak', %s::text)", (key[0],))
    return True

def application(environ, start_response):
    status, answer = "200 OK", []
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length <= BODY_MAX else b""
    wanted = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    signature = environ.get("HTTP_X_SIGNATURE_256", "")
    if length > BODY_MAX or not hmac.compare_digest(signature.encode(), wanted.encode()):
        status, answer = "401 Unauthorized", {"error": "signature"}
    else:
        try:
            finds = json.loads(body)
            for find in finds[:FINDS_MAX]:
                digest = hashlib.sha256(str(find.get("token", "")).encode()).digest()
                answer.append({"token_hash": base64.b64encode(digest).decode(), "token_type": str(find.get("type", "")),
                               "label": "true_positive" if handle(find) else "false_positive"})
        except (ValueError, TypeError, AttributeError):
            status, answer = "400 Bad Request", {"error": "report"}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]

make_server("127.0.0.1", int(os.environ.get("PORT", 3000)), application).serve_forever()
