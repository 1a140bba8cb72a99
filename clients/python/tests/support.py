"""What the tests share.

They want PGHOST, PGPORT, PGDATABASE and a superuser there, the tables of
examples/schema.sql, and the library preloaded.
"""
import contextlib
import os
import select
import socket
import sys
import threading
import time
import unittest
from pathlib import Path

import psycopg
from psycopg_pool import ConnectionPool

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

_count = 0


def one(text, *values):
    """The first column of the first row, as a superuser."""
    with psycopg.connect(autocommit=True) as db:
        row = db.execute(text, values).fetchone()
        return row[0] if row else None


def create_key(args="'acme/payments', scopes => '{invoices:read}'"):
    """A new key; args in SQL."""
    global _count
    _count += 1
    return one(f"SELECT auth.apikey_create('python-{os.getpid()}-{_count}', {args})")


def web_pool(conninfo="user=web", **more):
    """A pool of the server's role, which the policies hold for."""
    options = {"min_size": 1, "max_size": 4, "kwargs": {"autocommit": True}, "reconnect_timeout": 60.0, **more}
    return ConnectionPool(conninfo, open=False, **options)


class LiveTest(unittest.TestCase):
    """Has a pool that is shared by the tests of a class."""

    @classmethod
    def setUpClass(cls):
        cls.pool = web_pool()
        cls.pool.open(wait=True)
        cls.addClassCleanup(cls.pool.close)


class Way:
    """A way to the database that can be cut, or just stop to answer."""

    def __init__(self):
        self._pairs = set()
        self._silent = False
        self.asked = 0  # how often something came from the client
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        host, port = os.environ.get("PGHOST", "localhost"), os.environ.get("PGPORT", "5432")
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if host.startswith("/"):
                    database = socket.socket(socket.AF_UNIX)
                    database.connect(f"{host}/.s.PGSQL.{port}")
                else:
                    database = socket.create_connection((host, int(port)))
                self._pairs.add((client, database))
                threading.Thread(target=self._carry, args=(client, database), daemon=True).start()

    def _carry(self, client, database):
        other = {client: database, database: client}
        with contextlib.suppress(OSError, ValueError):
            while True:
                for source in select.select([client, database], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return self._end(client, database)
                    self.asked += source is client
                    if not self._silent:
                        other[source].sendall(data)
        self._end(client, database)

    def _end(self, *pair):
        self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def silence(self, silent):
        self._silent = silent

    def cut(self):
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.close()
        self.cut()


def until(condition, seconds=180.0):
    """Waits for something."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it does not come")
        time.sleep(0.05)


class Tap(unittest.TestResult):
    """Prints the Test Anything Protocol."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._number = 0

    def _say(self, good, test, error=None):
        self._number += 1
        print(f"{'ok' if good else 'not ok'} {self._number} - {test.shortDescription() or test.id()}")
        for line in self._exc_info_to_string(error, test).splitlines() if error else ():
            print(f"# {line}")

    def addSuccess(self, test):
        super().addSuccess(test)
        self._say(True, test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._say(False, test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._say(False, test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self._say(False, subtest, err)


def main():
    """All tests, as TAP."""
    result = Tap()
    unittest.defaultTestLoader.discover(str(Path(__file__).parent)).run(result)
    print(f"1..{result.testsRun}")
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
