"""Where a request comes from, behind proxies that are trusted and no others."""
import ipaddress
import re
from collections.abc import Callable, Iterable

Trusted = Callable[[str], bool]


def bare_address(text: str | None) -> str | None:
    """An address without its port, brackets and zone; None for what is none.

    A key that is bound to addresses is refused where there is none.
    """
    address = (text or "").strip()
    found = re.fullmatch(r"\[(.*)\](?::\d+)?", address) or re.fullmatch(r"([\d.]+):\d+", address)
    if found:
        address = found[1]
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def trusting(proxies: Iterable[str]) -> Trusted:
    """Is an address one of these addresses and networks?"""
    if isinstance(proxies, str):
        raise TypeError("pg_apikey: trusted_proxies has to be several texts")
    networks = [ipaddress.ip_network(proxy) for proxy in proxies]
    return lambda address: any(ipaddress.ip_address(address) in network for network in networks)


def client_address(peer: str | None, forwarded: str | None, trusted: Trusted) -> str | None:
    """The last address that no trusted proxy vouches for; None: it cannot be told.

    What stands left of it in X-Forwarded-For was written by whoever asks.
    """
    address = bare_address(peer)
    hops = [hop for hop in (forwarded or "").split(",") if hop.strip()]
    while address is not None and trusted(address) and hops:
        address = bare_address(hops.pop())
    return address
