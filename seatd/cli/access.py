"""`seatd key ...`, `seatd revoke`, `seatd audit`: who may speak to seatd, who may not sit, what was done."""

import json
from typing import Any, Final

import click

from seatd.cli.client import Api, path, speaks_api
from seatd.cli.output import Output, instant, instant_ms
from seatd.config import REVOKE_HOLD_MS_MAX

OF_TENANT: Final = ("client", "tenant_admin")
OF_HOUSE: Final = ("admin", "billing")


@click.group()
def key() -> None:
    """Make, list and revoke keys: of a tenant, or without one of the house."""


def _keys(tenant: str | None, *more: str) -> str:
    return path("keys", *more) if tenant is None else path("tenants", tenant, "keys", *more)


@key.command(
    epilog="""\b
Examples:
  seatd key add acme                          a client key, alone on standard output
  seatd key add acme --scope tenant_admin
  seatd key add --scope billing --expires 2027-01-01
"""
)
@click.argument("tenant", required=False)
@click.option("--scope", type=click.Choice([*OF_TENANT, *OF_HOUSE]), help="What it opens (default: client).")
@click.option(
    "--expires", type=instant_ms, metavar="INSTANT", help="When it stops to open anything (default: never)."
)
@speaks_api
def add(tenant: str | None, scope: str | None, expires: int | None, *, api: Api, out: Output) -> None:
    """Make a key; its text is shown this once."""
    if scope is None and tenant is not None:
        scope = "client"
    if scope is None or (scope in OF_TENANT) != (tenant is not None):
        raise click.UsageError(
            f"A key of scope {' or '.join(OF_TENANT)} names a TENANT; one of scope {' or '.join(OF_HOUSE)} does not."
        )
    wanted = {"scope": scope} | ({} if expires is None else {"expires_ms": expires})
    body = api.call("POST", _keys(tenant), wanted).body

    def draw() -> None:
        out.note(f"{scope} key {body['id']}; seatd shows its text this once:")
        out.say(body["key"])

    out.answer(body, draw)
    out.projected(projected=body.get("projected", True))


@key.command("list", epilog="Example: seatd key list acme")
@click.argument("tenant", required=False)
@speaks_api
def list_(tenant: str | None, *, api: Api, out: Output) -> None:
    """List keys: ids, scopes, last use."""
    items = list(api.pages(_keys(tenant)))
    columns = ("key", "scope", "made", "expires", "last used")
    rows = (
        (
            item["id"],
            item["scope"],
            instant(item["created_ms"]),
            instant(item["expires_ms"]) or "never",
            instant(item["last_used_ms"]) or "never",
        )
        for item in items
    )
    out.answer({"items": items}, lambda: out.table(columns, rows, empty="There are no keys."))


@key.command(
    epilog="""\b
Examples:
  seatd key revoke k_abcdefghijkl --tenant acme
  seatd key revoke k_abcdefghijkl
"""
)
@click.argument("key_id", metavar="KEY")
@click.option("--tenant", help="Whose key it is (default: of the house).")
@speaks_api
def revoke(key_id: str, tenant: str | None, *, api: Api, out: Output) -> None:
    """Revoke a key by its id; it opens nothing from now on."""
    answer = api.call("DELETE", _keys(tenant, key_id))
    out.answer({"id": key_id, "revoked": True}, lambda: out.say(f"{key_id} opens nothing any more."))
    out.projected(projected=answer.headers.get("Seatd-Projected") != "false")


@key.command(
    "rotate-receipts",
    epilog="""\b
Examples:
  seatd key rotate-receipts
  seatd key rotate-receipts --signs-in 600    what others keep of the public keys lives longer than a minute
""",
)
@click.option(
    "--signs-in",
    type=click.IntRange(5, 3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="When the new key begins to sign; by then every seatd must have loaded it.",
)
@speaks_api
def rotate_receipts(signs_in: int, *, api: Api, out: Output) -> None:
    """Make a new key of receipts and proofs; nobody who works is thrown out."""
    body = api.call("POST", path("receipt-keys"), {"signs_in_ms": signs_in * 1000}).body
    signs, until = instant(body["signs_from_ms"]), instant(body["older_verify_until_ms"])
    said = f"{body['kid']} signs from {signs}; what older keys signed is worth nothing from {until}."
    out.answer(body, lambda: out.say(said))


@click.command(
    "revoke",
    epilog="""\b
Examples:
  seatd revoke acme 3v5q...          as `seatd who acme` shows the lease
  seatd revoke acme 3v5q... --force --hold-ms 3600000
""",
)
@click.argument("tenant")
@click.argument("lease")
@click.option(
    "--force", is_flag=True, help="Free the seat at once, though its client may still believe in it."
)
@click.option(
    "--hold-ms",
    type=click.IntRange(0, REVOKE_HOLD_MS_MAX),
    help="How long the user may not sit again (default: as the server is set).",
)
@speaks_api
def revoke_lease(tenant: str, lease: str, *, force: bool, hold_ms: int | None, api: Api, out: Output) -> None:
    """End a lease; its seat is free once its client cannot believe in it."""
    forced = "true" if force else None
    body = api.call("DELETE", path("tenants", tenant, "leases", lease), force=forced, hold_ms=hold_ms).body
    user, free = body["user"], instant(body["free_ms"])
    said = f"{user}'s lease is revoked; the seat is free from {free}."
    if force:
        said = (
            f"{user}'s lease is revoked by force: the seat is free now, and two may work on it for a while."
        )
    out.answer(body, lambda: out.say(said))


@click.command(
    epilog="""\b
Examples:
  seatd audit --tenant acme
  seatd audit --after 1200 --limit 1000 --json
"""
)
@click.option("--tenant", help="Only what was done to this tenant.")
@click.option("--after", type=click.IntRange(min=0), help="From the entry after this number.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@speaks_api
def audit(tenant: str | None, after: int | None, limit: int, *, api: Api, out: Output) -> None:
    """Show what was done, when, and by which key."""
    body = api.call("GET", path("audit"), tenant=tenant, after=after, limit=limit).body
    columns = ("no#", "at", "by", "what", "tenant", "user", "detail")
    rows = (
        (
            item["seq"],
            instant(item["at_ms"]),
            item["actor"],
            item["action"],
            item["tenant"],
            item.get("user"),
            _detail(item["detail"]),
        )
        for item in body["items"]
    )
    out.answer(body, lambda: out.table(columns, rows, empty="Nothing was done."))
    if "next" in body and not out.as_json:
        out.note(f"There is more: --after {body['next']}")


def _detail(detail: dict[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in detail.items() if value is not None)
