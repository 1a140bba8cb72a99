"""Middleware for API keys that PostgreSQL verifies: see wsgi and asgi."""
from .address import bare_address, client_address, trusting
from .headers import Limit, rate_limit_fields, seconds_until
from .refusal import ApikeyRefused, status_of
from .verdict import Demand, Key
from .verifier import AsyncCaller, AsyncVerifier, Caller, Verifier

__version__ = "0.2.0"
__all__ = [
    "ApikeyRefused", "AsyncCaller", "AsyncVerifier", "Caller", "Demand", "Key", "Limit", "Verifier",
    "bare_address", "client_address", "rate_limit_fields", "seconds_until", "status_of", "trusting",
]
