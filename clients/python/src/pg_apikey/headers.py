"""What a response tells of limits, as fields of HTTP."""
import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypedDict

INTEGER_MAX = 999_999_999_999_999  # of a structured field, RFC 9651


class Limit(TypedDict):
    """A limit, as apikey_verify tells it in detail.limit and detail.limits."""

    holder: Literal["key", "subject", "project", "organization"]
    unit: str
    kind: Literal["rate", "quota", "balance"]
    amount: int | None
    period_seconds: float | None
    remaining: int
    resets_at: str | None


def _integer(value: float) -> int:
    return min(max(math.ceil(value), 0), INTEGER_MAX)


def seconds_until(until: str, now: float) -> int:
    """Whole seconds until a time, one at least; now in seconds."""
    return max(1, _integer(datetime.fromisoformat(until).timestamp() - now))


def _name(limit: Limit) -> str:
    """The name of a limit's policy: the same in each response."""
    kind = "" if limit["kind"] == "rate" else f"-{limit['kind']}"
    period = "" if limit["period_seconds"] is None else f"-{math.ceil(limit['period_seconds'])}"
    return f"{limit['holder']}-{limit['unit']}{kind}{period}"


def rate_limit_fields(limits: Iterable[Limit], now: float) -> dict[str, str]:
    """RateLimit and RateLimit-Policy, an item for each limit; none without.

    https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/.
    Credits that are never refilled are no policy: they have no amount.
    """
    policies: list[str] = []
    states: list[str] = []
    names: Counter[str] = Counter()
    for limit in limits:
        if limit["amount"] is None:
            continue
        name = _name(limit)
        names[name] += 1
        item = f'"{name}-{names[name]}"' if names[name] > 1 else f'"{name}"'
        unit = "" if limit["unit"] == "requests" else f';qu="{limit["unit"]}"'
        window = "" if limit["period_seconds"] is None else f";w={_integer(limit['period_seconds'])}"
        reset = "" if limit["resets_at"] is None else f";t={seconds_until(limit['resets_at'], now)}"
        policies.append(f"{item};q={_integer(limit['amount'])}{unit}{window}")
        states.append(f"{item};r={_integer(limit['remaining'])}{reset}")
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)} if policies else {}
