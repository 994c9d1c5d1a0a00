"""Which addresses an agent may go to."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SCHEMES = ("http", "https")


def address_refusal(address: str, hosts: tuple[str, ...]) -> str:
    """Why an address must not be opened; "" if it may.

    An address has to be written plainly: whatever a browser would read otherwise than `urllib` does (white space,
    control and non-ASCII characters, backslashes, credentials) is refused rather than interpreted.

    Args:
        hosts: allowed names, for any port, or "name:port" for that one; IPv6 as "::1" or "[::1]:8000".
    """
    if not address.isascii() or not address.isprintable() or " " in address or "\\" in address:
        return "an address with blanks, backslashes or characters beyond ASCII: write it plainly"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "no address: give http://host/path"
    if parts.scheme not in SCHEMES or not host:
        return f"{address[:60]!r} is no address of {' or '.join(SCHEMES)}: give http://host/path"
    if "@" in parts.netloc:
        return "an address with a user name or password: leave it out"
    bracketed = f"[{host}]" if ":" in host else host
    standard = {"http": 80, "https": 443}[parts.scheme]
    if not {host, f"{bracketed}:{standard if port is None else port}"} & {name.lower() for name in hosts}:
        return f"going to {host[:60]!r} is not allowed: allowed are {', '.join(hosts) or 'no hosts'}"
    return ""
