"""One URL of a database as others need it: libpq, another driver, a proxy."""

from __future__ import annotations


def libpq_url(url: str) -> str:
    """As libpq takes it."""
    return "postgresql" + url[url.index("://") :]


def with_driver(url: str, driver: str) -> str:
    return f"postgresql+{driver}{url[url.index('://') :]}"


def with_port(url: str, port: int) -> str:
    scheme, _, rest = url.partition("://")
    address, slash, path = rest.partition("/")
    who, at, _ = address.rpartition("@")
    return f"{scheme}://{who}{at}127.0.0.1:{port}{slash}{path}"
