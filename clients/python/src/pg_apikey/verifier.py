"""Verifies keys and tokens in the database, each time anew: nothing is kept."""
from __future__ import annotations

import inspect
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Generic, Literal, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed

from .address import client_address, trusting
from .credential import Offer, key_of, offer
from .deadline import watchdog, within
from .headers import Limit
from .refusal import ApikeyRefused
from .verdict import Asked, Demand, Key, Role, Statements, asking, is_mistake, judged, parameters, refusal_of, uncounted

R = TypeVar("R")
V = TypeVar("V")
Isolation = Literal["read committed", "repeatable read", "serializable"]
DEMANDED = ("project", "owner", "scopes", "min_role", "cost", "costs")
log = logging.getLogger("pg_apikey")


class Pool(Protocol):
    """What we need of psycopg_pool.ConnectionPool."""

    def connection(self, timeout: float | None = None) -> AbstractContextManager[psycopg.Connection[Any]]:
        """A connection, for a time."""


class AsyncPool(Protocol):
    """What we need of psycopg_pool.AsyncConnectionPool."""

    def connection(self, timeout: float | None = None) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """A connection, for a time."""


P = TypeVar("P", Pool, AsyncPool)


class Place(Generic[P, R]):
    """What both verifiers share: whose keys, where, and how long to wait."""

    def __init__(
        self,
        pool: P,
        *,
        schema: str = "public",
        project: Asked[str | None, R] = None,
        owner: Asked[str | None, R] = None,
        scopes: Asked[Sequence[str] | None, R] = None,
        min_role: Asked[Role | None, R] = None,
        cost: Asked[int | None, R] = None,
        costs: Asked[Mapping[str, int] | None, R] = None,
        optional: bool | None = None,
        header: str = "x-api-key",
        timeout: float = 2.0,
        trusted_proxies: Iterable[str] = (),
        rate_limit_fields: bool | Callable[[Limit], bool] = True,
    ) -> None:
        if not timeout > 0:
            raise TypeError("pg_apikey: timeout has to be positive")
        self.pool: P = pool
        self.demand: Demand[R] = Demand(project, owner, scopes, min_role, cost, costs, optional)
        self.statements = Statements.of(schema)
        self.header = header.lower()
        self.timeout = timeout
        self._trusted = trusting(trusted_proxies)
        self._tells = rate_limit_fields is not False
        self._told: Callable[[Limit], bool] = rate_limit_fields if callable(rate_limit_fields) else lambda _: self._tells

    def demanding(self, demand: Demand[R] | None = None) -> Demand[R]:
        """A demand with what holds in general; says at once what is wrong."""
        return (demand or Demand()).over(self.demand)

    def vary(self, present: str | None) -> str:
        """The field Vary: what a cache has to tell responses apart by."""
        return ", ".join(filter(None, [present, self.header, "authorization"]))

    def _offered(self, header: Callable[[str], str | None], demand: Demand[R]) -> Offer | None:
        optional = demand.optional or False
        text = key_of(header, self.header, optional)
        return None if text == "" and optional else offer(text)

    def _address(self, header: Callable[[str], str | None], peer: str | None) -> str | None:
        return client_address(peer, header("x-forwarded-for"), self._trusted)

    def _undecided(self, error: psycopg.Error) -> ApikeyRefused:
        """What is no verdict: raises what is a mistake of ours."""
        if is_mistake(error):
            raise error
        log.warning("%s: %s", type(error).__name__, error)
        return ApikeyRefused("unavailable")

    def _not_begun(self, error: psycopg.Error, key: Key, asked: Mapping[str, Any]) -> ApikeyRefused:
        code = refusal_of(error)
        return self._undecided(error) if code is None else ApikeyRefused(code, key=key, scopes=asked["scopes"])


def _set_transaction(read_only: bool, isolation: Isolation | None) -> str:
    if isolation not in (None, "read committed", "repeatable read", "serializable"):
        raise TypeError(f"pg_apikey: isolation {isolation}")
    modes = [f"ISOLATION LEVEL {isolation}"] if isolation else []
    return ", ".join(modes + ["READ ONLY"] * read_only)


def _check_committable(connection: psycopg.BaseConnection[Any]) -> None:
    if connection.info.transaction_status == TransactionStatus.INERROR:
        raise psycopg.errors.InFailedSqlTransaction("the transaction is rolled back: a statement in it had failed")


class Verifier(Place[Pool, R]):
    """Verifies with a pool of psycopg_pool, for threads and WSGI."""

    def admit(self, header: Callable[[str], str | None], peer: str | None, demand: Demand[R], request: R) -> Caller | None:
        """Whoever asks, or None without a key where that may be.

        Raises ApikeyRefused.  header reads a header by its name in lower case,
        peer is the address that is connected, demand comes from demanding(),
        and its functions are called with request.
        """
        offered = self._offered(header, demand)
        if offered is None:
            return None
        values = {name: value(request) if callable(value := getattr(demand, name)) else value for name in DEMANDED}
        asked = asking(demand, values, self._address(header, peer), self._tells)
        try:
            answer = self._ask(self.statements.verify, parameters(offered, asked))
        except psycopg.Error as error:
            raise self._undecided(error) from error
        key, fields = judged(answer, self._told, asked["scopes"])
        return Caller(self, key, fields, offered, asked)

    def _ask(self, statement: Composed, values: Mapping[str, Any]) -> Any:
        """One statement, in one round trip: outside of a transaction."""
        with self.pool.connection(timeout=self.timeout) as connection:
            autocommit = connection.autocommit
            if not autocommit:
                connection.autocommit = True
            try:
                return self._on(connection, statement, values)
            finally:
                if not autocommit and not connection.closed:
                    connection.autocommit = False

    def _on(self, connection: psycopg.Connection[Any], statement: Composed, values: Mapping[str, Any]) -> Any:
        with watchdog.over(connection, self.timeout), psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            row = cursor.execute(statement, values).fetchone()
            return row[0] if row else None


class Admitted(Generic[V]):
    """Whoever asks, by its key."""

    def __init__(self, verifier: V, key: Key, headers: Mapping[str, str], offered: Offer, asked: Mapping[str, Any]) -> None:
        self.key = key
        """the verified key"""
        self.headers = dict(headers)
        """fields of the response: what is left of the limits"""
        self._verifier = verifier
        self._offered = offered
        self._asked = asked


class Caller(Admitted["Verifier[Any]"]):
    """Whoever asks, by its key, of a Verifier."""

    @contextmanager
    def transaction(
        self, *, read_only: bool = False, isolation: Isolation | None = None
    ) -> Iterator[psycopg.Connection[Any]]:
        """A transaction that is known as this key, for policies on tables.

        The key is verified again, uncounted; where it was revoked meanwhile,
        ApikeyRefused is raised.
        """
        verifier = self._verifier
        modes = _set_transaction(read_only, isolation)
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(verifier.pool.connection(timeout=verifier.timeout))
                with watchdog.over(connection, verifier.timeout):
                    stack.enter_context(connection.transaction())
                    if modes:
                        connection.execute(SQL("SET TRANSACTION ") + SQL(modes))
                verifier._on(connection, verifier.statements.authenticate, parameters(self._offered, uncounted(self._asked)))
            except psycopg.Error as error:
                raise verifier._not_begun(error, self.key, self._asked) from error
            yield connection
            _check_committable(connection)

    def charge(self, costs: Mapping[str, int]) -> None:
        """What the request turned out to cost, beside what it was verified with."""
        self._verifier._ask(self._verifier.statements.charge, _charge(self.key, costs, self._asked))


def _charge(key: Key, costs: Mapping[str, int], asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": key.id, "costs": json.dumps(dict(costs)), "project": asked["project"], "owner": asked["owner"]}


class AsyncVerifier(Place[AsyncPool, R]):
    """Verifies with an asynchronous pool of psycopg_pool, for asyncio and ASGI.

    The functions of a demand may be asynchronous.
    """

    async def admit(
        self, header: Callable[[str], str | None], peer: str | None, demand: Demand[R], request: R
    ) -> AsyncCaller | None:
        """As Verifier.admit."""
        offered = self._offered(header, demand)
        if offered is None:
            return None
        values: dict[str, Any] = {}
        for name in DEMANDED:
            value = getattr(demand, name)
            value = value(request) if callable(value) else value
            values[name] = await value if inspect.isawaitable(value) else value
        asked = asking(demand, values, self._address(header, peer), self._tells)
        try:
            answer = await self._ask(self.statements.verify, parameters(offered, asked))
        except psycopg.Error as error:
            raise self._undecided(error) from error
        key, fields = judged(answer, self._told, asked["scopes"])
        return AsyncCaller(self, key, fields, offered, asked)

    async def _ask(self, statement: Composed, values: Mapping[str, Any]) -> Any:
        async with self.pool.connection(timeout=self.timeout) as connection:
            autocommit = connection.autocommit
            if not autocommit:
                await connection.set_autocommit(True)
            try:
                return await self._on(connection, statement, values)
            finally:
                if not autocommit and not connection.closed:
                    await connection.set_autocommit(False)

    async def _on(self, connection: psycopg.AsyncConnection[Any], statement: Composed, values: Mapping[str, Any]) -> Any:
        async with within(connection, self.timeout), psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            await cursor.execute(statement, values)
            row = await cursor.fetchone()
            return row[0] if row else None


class AsyncCaller(Admitted["AsyncVerifier[Any]"]):
    """Whoever asks, by its key, of an AsyncVerifier."""

    @asynccontextmanager
    async def transaction(
        self, *, read_only: bool = False, isolation: Isolation | None = None
    ) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """As Caller.transaction."""
        verifier = self._verifier
        modes = _set_transaction(read_only, isolation)
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(verifier.pool.connection(timeout=verifier.timeout))
                async with within(connection, verifier.timeout):
                    await stack.enter_async_context(connection.transaction())
                    if modes:
                        await connection.execute(SQL("SET TRANSACTION ") + SQL(modes))
                await verifier._on(
                    connection, verifier.statements.authenticate, parameters(self._offered, uncounted(self._asked))
                )
            except psycopg.Error as error:
                raise verifier._not_begun(error, self.key, self._asked) from error
            yield connection
            _check_committable(connection)

    async def charge(self, costs: Mapping[str, int]) -> None:
        """As Caller.charge."""
        await self._verifier._ask(self._verifier.statements.charge, _charge(self.key, costs, self._asked))
