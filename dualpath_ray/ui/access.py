"""Who may use the live page: a token where it is open to other machines, and no help from strangers' pages. Pure."""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

CHANGE_HEADER = (
    "X-Dualpath-Change"  # a page of another origin cannot send it without being asked first, which is refused
)
_LOCAL = "localhost"


@dataclass(frozen=True, slots=True)
class Access:
    """The rule of one page. Without a token only those on this machine reach it."""

    host: str
    token: str | None = None

    def knows(self, token: str | None) -> bool:
        """Whether somebody with this token may look. Takes as long for a wrong token as for a nearly right one."""
        if self.token is None:
            return True
        return hmac.compare_digest(self.token.encode(), (token or "").encode())

    def accepts_host(self, header: str | None) -> bool:
        """Whether a request was meant for this page.

        Without a token a stranger's name that resolves to this machine would let that stranger's page in (DNS rebinding).
        """
        return self.token is not None or is_loopback(_host_of(header or ""))

    def may_change(self, headers: Mapping[str, str]) -> bool:
        """Whether a request that changes something comes from our own page or a program, not from somebody else's page."""
        if CHANGE_HEADER not in headers:
            return False
        origin = headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == headers.get("Host")


def needs_token(host: str) -> bool:
    """Whether others than this machine reach a page that listens there."""
    return not is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host == _LOCAL:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bearer(header: str | None) -> str | None:
    """The token of an ``Authorization`` header."""
    kind, _, token = (header or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _host_of(header: str) -> str:
    """Of a ``Host`` header, without its port."""
    return urlsplit(f"//{header}").hostname or ""
