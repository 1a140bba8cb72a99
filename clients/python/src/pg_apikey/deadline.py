"""An end to waiting: libpq has none for an answer that does not come."""
import asyncio
import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg


def cut(connection: psycopg.BaseConnection[Any]) -> None:
    """Ends what waits for this connection, by an OperationalError.

    A request to cancel would have to go over the same network.
    """
    with contextlib.suppress(OSError, psycopg.Error):
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """Cuts connections that do not answer in time, by one thread for all.

    The thread sleeps until the earliest end that it knew when it fell asleep,
    and is woken for an earlier one alone: not by each statement.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[object, tuple[float, psycopg.BaseConnection[Any]]] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def over(self, connection: psycopg.BaseConnection[Any], seconds: float) -> Iterator[None]:
        """Watches over a statement."""
        mark = object()
        end = time.monotonic() + seconds
        with self._condition:
            self._waiting[mark] = (end, connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pg_apikey", daemon=True)
                self._thread.start()
            elif end < self._wakes_at:
                self._condition.notify()
        try:
            yield
        finally:
            with self._condition:
                self._waiting.pop(mark, None)

    def _run(self) -> None:
        with self._condition:
            while True:
                now = time.monotonic()
                for mark, (end, connection) in list(self._waiting.items()):
                    if end <= now:
                        cut(connection)
                        del self._waiting[mark]
                self._wakes_at = min((end for end, _ in self._waiting.values()), default=math.inf)
                self._condition.wait(None if self._wakes_at == math.inf else self._wakes_at - now)


watchdog = Watchdog()


def _forget() -> None:
    """A child has no threads, and its parent's connections are not its own."""
    watchdog.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget)


@contextlib.asynccontextmanager
async def within(connection: psycopg.AsyncConnection[Any], seconds: float) -> AsyncIterator[None]:
    """The same for asyncio, which has timers."""
    timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
    try:
        yield
    finally:
        timer.cancel()
