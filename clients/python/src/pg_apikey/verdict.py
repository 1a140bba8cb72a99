"""What is demanded of a key, how it is asked in SQL, and what comes back."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, Union

import psycopg
from psycopg import sql

from .credential import Offer
from .headers import Limit, rate_limit_fields
from .refusal import ApikeyRefused

Role = Literal["developer", "admin", "owner"]
R = TypeVar("R")
T = TypeVar("T")
# A value, or how it follows from the request.
Asked = Union[T, Callable[[R], T]]

# A bad value, a name that is not there, a right that is missing.
MISTAKES = ("0A", "22", "3D", "3F", "42")

ARGUMENTS = """%(handle)s::text, %(digest)s::bytea, scopes => %(scopes)s::text[], project => %(project)s::text,
    min_role => %(min_role)s::{schema}.apikey_role, client_addr => %(address)s::inet, cost => %(cost)s::integer,
    owner => quote_ident(%(owner)s::text)::regrole, costs => %(costs)s::jsonb"""
VERIFY = (
    """SELECT json_build_object('now', extract(epoch FROM clock_timestamp()), 'verdict', row_to_json(v))::text
    FROM {schema}.apikey_verify_digest("""
    + ARGUMENTS
    + ") AS v"
)
AUTHENTICATE = "SELECT {schema}.apikey_authenticate_digest(" + ARGUMENTS + ")"
CHARGE = """SELECT {schema}.apikey_charge(%(id)s::uuid, %(costs)s::jsonb, project => %(project)s::text,
    owner => quote_ident(%(owner)s::text)::regrole)"""


@dataclass(frozen=True)
class Statements:
    """The statements, for a schema."""

    verify: sql.Composed
    authenticate: sql.Composed
    charge: sql.Composed

    @classmethod
    def of(cls, schema: str) -> Statements:
        """For the schema where the extension is."""
        name = sql.Identifier(schema)
        return cls(*(sql.SQL(text).format(schema=name) for text in (VERIFY, AUTHENTICATE, CHARGE)))


@dataclass(frozen=True)
class Demand(Generic[R]):
    """What is demanded of a key.  None: as the verifier has it."""

    project: Asked[str | None, R] = None
    """whose key: an organization's ("acme") or a project's ("acme/payments")"""
    owner: Asked[str | None, R] = None
    """whose key: the role's; its personal keys where no project is named"""
    scopes: Asked[Sequence[str] | None, R] = None
    """all of them"""
    min_role: Asked[Role | None, R] = None
    """in the project"""
    cost: Asked[int | None, R] = None
    """how much of "requests" is spent: 1"""
    costs: Asked[Mapping[str, int] | None, R] = None
    """how much of other units: {"tokens": 800}"""
    optional: bool | None = None
    """a request without a key passes, as nobody"""

    def __post_init__(self) -> None:
        if isinstance(self.scopes, str):
            raise TypeError("pg_apikey: scopes has to be several texts")

    def over(self, general: Demand[R]) -> Demand[R]:
        """With what holds in general; says at once what is wrong."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        both = replace(general, **{name: value for name, value in mine.items() if value is not None})
        if not both.project and not both.owner:
            raise TypeError("pg_apikey: whose keys? Name a project, an organization or an owner")
        return both


def asking(demand: Demand[Any], values: Mapping[str, Any], address: str | None, tells: bool) -> dict[str, Any]:
    """The parameters of SQL but the key, from the values of a demand."""
    # A demand is never dropped by mistake: a table that has no line for this
    # request would open it to every key, or to the caller's own.
    for name in ("project", "owner", "min_role"):
        if getattr(demand, name) and not values[name]:
            raise TypeError(f"pg_apikey: for this request {name} is nothing")
    scopes = () if demand.scopes is None else values["scopes"]
    if isinstance(scopes, str) or not isinstance(scopes, Sequence) or not all(isinstance(scope, str) for scope in scopes):
        raise TypeError("pg_apikey: for this request scopes is no list of texts")
    costs = values["costs"]
    if costs is None and tells:
        costs = {}  # asked with costs, the database tells of all limits
    return {
        "project": values["project"],
        "owner": values["owner"],
        "scopes": list(scopes),
        "min_role": values["min_role"],
        "address": address,
        "cost": 1 if values["cost"] is None else values["cost"],
        "costs": None if costs is None else json.dumps(dict(costs)),
    }


def parameters(offered: Offer, asked: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of SQL."""
    return {"handle": offered.handle, "digest": offered.digest, **asked}


def uncounted(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The same demand, that spends nothing."""
    return {**asked, "cost": 0, "costs": None}


@dataclass(frozen=True)
class Key:
    """A verified key."""

    id: str
    name: str
    project: str | None
    owner: str
    subject: str | None
    role: Role | None
    scopes: list[str]
    metadata: dict[str, Any]
    expires_at: datetime | None
    credits: int | None
    rate_remaining: int | None
    rate_reset_at: datetime | None
    detail: dict[str, Any] | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Key:
        """From the row of a verification, as JSON."""

        def time(text: str | None) -> datetime | None:
            return None if text is None else datetime.fromisoformat(text)

        return cls(
            id=row["key_id"], name=row["name"], project=row["project"], owner=row["owner"], subject=row["subject"],
            role=row["role"], scopes=row["scopes"], metadata=row["metadata"], expires_at=time(row["expires_at"]),
            credits=row["credits"], rate_remaining=row["rate_remaining"], rate_reset_at=time(row["rate_reset_at"]),
            detail=row["detail"],
        )


def judged(answer: str, told: Callable[[Limit], bool], scopes: Sequence[str]) -> tuple[Key, dict[str, str]]:
    """The key and the response's fields, from an answer; or ApikeyRefused."""
    parsed = json.loads(answer)
    now, row = parsed["now"], parsed["verdict"]
    key = None if row["key_id"] is None else Key.of(row)
    detail = row["detail"] or {}
    limits: list[Limit] = detail.get("limits") or ([detail["limit"]] if "limit" in detail else [])
    told_fields = rate_limit_fields((limit for limit in limits if told(limit)), now)
    if row["valid"] is not True or key is None:
        retry_at = (detail.get("limit") or {}).get("resets_at") or row["rate_reset_at"]
        raise ApikeyRefused(row["code"], key=key, scopes=scopes, fields=told_fields, retry_at=retry_at, now=now)
    return key, told_fields


def is_mistake(error: psycopg.Error) -> bool:
    """Was it asked wrongly?  Everything else is a bad day, which may pass."""
    return error.sqlstate is not None and error.sqlstate[:2] in MISTAKES


def refusal_of(error: psycopg.Error) -> str | None:
    """The code of a refused apikey_authenticate; None for other errors."""
    return error.diag.message_detail if error.sqlstate == "28000" else None
