"""The programs that README shows."""
import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from support import create_key, until

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Examples(unittest.TestCase):
    def test_wsgi(self):
        """examples/wsgi.py"""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        source = str(EXAMPLES.parent / "src")
        program = subprocess.Popen([sys.executable, EXAMPLES / "wsgi.py"], stderr=subprocess.DEVNULL,
                                   env={**os.environ, "PORT": str(port), "PYTHONPATH": source})
        self.addCleanup(lambda: (program.kill(), program.wait()))

        def get(headers):
            try:
                with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)) as response:
                    return response.status, json.load(response)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        self.assertEqual(get({}), (401, {"error": "missing"}))
        key = create_key("'acme/website', scopes => '{invoices:read}', allowed_ips => '{198.51.100.7}'")
        self.assertEqual(get({"X-Api-Key": key}), (401, {"error": "ip_denied"}))
        status, body = get({"X-Api-Key": key, "X-Forwarded-For": "198.51.100.7"})
        self.assertEqual((status, body["invoices"]), (200, [["Linus", 7.0]]))

    def test_asgi(self):
        """examples/asgi.py"""
        key = create_key("'acme/website', scopes => '{invoices:read}'")

        async def run():
            application = load("asgi").application
            to_app, from_app = asyncio.Queue(), asyncio.Queue()
            life = asyncio.create_task(application({"type": "lifespan"}, to_app.get, from_app.put))
            await to_app.put({"type": "lifespan.startup"})
            started = await from_app.get()
            scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"x-api-key", key.encode())]}
            await application(scope, to_app.get, from_app.put)
            response = await from_app.get(), await from_app.get()
            await to_app.put({"type": "lifespan.shutdown"})
            await life
            return started["type"], response[0]["status"], json.loads(response[1]["body"])["invoices"]

        self.assertEqual(asyncio.run(run()), ("lifespan.startup.complete", 200, [["Linus", 7.0]]))
