"""The throwaway tenant: made for one self-test, and ended whatever happens.

Decides what makes it harmless.  Its name is random; it is on trial, which no bill knows, and which ends by itself, as its
key does, should nobody be left to end them.  Nothing here touches any other tenant.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

LEFT_ALONE_MS = 600_000
"""How long after its time a tenant lives on that nobody ended."""
TTL_MS = 2_000
PAGE = 1_000
ROWS_MAX = 100_000


class Admin(Protocol):
    """The admin API: gives the decoded answer, raises what its owner likes where it is refused or away."""

    def __call__(self, method: str, route: str, body: Any = None, **query: Any) -> Any:
        """Ask."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The tenant of one self-test: its seats, the key of its clients, the instant it was made (ms, the server's)."""

    name: str
    seats: int
    key: str
    made_ms: int
    admin: Admin

    def revoke(self, lease: str) -> int:
        """End a lease; gives the instant (ms) at which its seat is free."""
        return int(self.admin("DELETE", f"{_route(self.name)}/leases/{quote(lease, safe='')}")["free_ms"])

    def ledger(self) -> list[dict[str, Any]]:
        """Read all its leases from the ledger."""
        rows: list[dict[str, Any]] = []
        after: str | None = None
        while len(rows) < ROWS_MAX:
            page = self.admin(
                "GET",
                f"{_route(self.name)}/usage",
                intervals="true",
                from_ms=max(self.made_ms - LEFT_ALONE_MS, 0),
                to_ms=self.made_ms + 10 * LEFT_ALONE_MS,
                limit=PAGE,
                after=after,
            )
            rows += page["items"]
            after = page.get("next")
            if after is None:
                break
        return rows


class NotEndedError(Exception):
    """The tenant could not be ended; says why."""


def new_name() -> str:
    """Make up a name that no tenant has."""
    return f"verify-{secrets.token_hex(6)}"


@contextlib.contextmanager
def throwaway(admin: Admin, name: str, *, seats: int, lasts_ms: int) -> Iterator[Tenant]:
    """Make a tenant of `seats` seats for about `lasts_ms`, and end it on the way out: its keys, its contract.

    On the way out of an error, or of Ctrl-C, as well; raises `NotEndedError` where that fails.
    """
    # The server's own clock says until when: that of this machine may be wrong.
    about = {"name": "Self-test, to be ignored", "labels": {"purpose": "verify"}}
    try:
        made_ms = int(admin("PUT", _route(name), about)["created_ms"])
        ends_ms = made_ms + lasts_ms + LEFT_ALONE_MS
        contract = {"tariff": "team", "seats": seats, "lease_ttl_ms": TTL_MS, "trial_until_ms": ends_ms}
        admin("PUT", _route(name), contract)
        made = admin("POST", f"{_route(name)}/keys", {"scope": "client", "expires_ms": ends_ms})
        yield Tenant(name, seats, made["key"], made_ms, admin)
    except BaseException:
        with contextlib.suppress(NotEndedError):  # what went wrong first says more
            _ended(admin, name)
        raise
    _ended(admin, name)


def _ended(admin: Admin, name: str) -> None:
    try:
        end(admin, name)
    except Exception as error:
        raise NotEndedError(f"The tenant {name} could not be ended: {error}") from error


def end(admin: Admin, name: str) -> None:
    """End the tenant's contract, then revoke its keys; what is over already stays so."""
    admin("PUT", _route(name), {"tariff": None, "trial_until_ms": None, "suspended": True})
    for key in admin("GET", f"{_route(name)}/keys", limit=PAGE)["items"]:
        admin("DELETE", f"{_route(name)}/keys/{quote(key['id'], safe='')}")


def _route(name: str) -> str:
    return f"/v1/tenants/{quote(name, safe='')}"
