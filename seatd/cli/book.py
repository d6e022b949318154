"""`seatd book`, `seatd bind`, `seatd unbind`, `seatd meter`: what a tenant orders and reports."""

import sys
from collections.abc import Callable
from typing import Any

import click

from seatd.cli.client import Answer, Api, ApiError, path, speaks_api
from seatd.cli.output import Output, instant, instant_ms


@click.command(
    epilog="""\b
Examples:
  seatd book acme team 60
  seatd book acme reporting 5 --effective next_month
"""
)
@click.argument("tenant")
@click.argument("product")
@click.argument("quantity", type=click.IntRange(min=0))
@click.option(
    "--effective",
    type=click.Choice(["now", "next_month"]),
    help="From when (default: more now, less at the next month).",
)
@speaks_api
def book(tenant: str, product: str, quantity: int, effective: str | None, *, api: Api, out: Output) -> None:
    """Book an absolute quantity of a product."""
    wanted = {"product": product, "quantity": quantity} | ({"effective": effective} if effective else {})
    answer = api.call("POST", path("tenants", tenant, "bookings"), wanted)
    out.answer(answer.body, lambda: out.say(_booked(answer)))
    out.projected(projected=answer.body["projected"])


def _booked(answer: Answer) -> str:
    body = answer.body
    already = "" if answer.status == 201 else "already "
    said = f"{body['quantity']} {body['product']} {already}booked from {instant(body['effective_ms'])}"
    replaced = body.get("replaced")
    if replaced is None:
        return f"{said}."
    return f"{said}, in place of {replaced['quantity']} from {instant(replaced['effective_ms'])}."


@click.command(
    epilog="""\b
Examples:
  seatd bind acme agent ana ben
  seatd bind acme service backup-bot
"""
)
@click.argument("tenant")
@click.argument("product")
@click.argument("users", nargs=-1, required=True, metavar="USER...")
@speaks_api
def bind(tenant: str, product: str, users: tuple[str, ...], *, api: Api, out: Output) -> None:
    """Name users for a product."""

    def one(user: str) -> tuple[str, bool]:
        answer = api.call("PUT", path("tenants", tenant, "bindings", product, user))
        return "bound" if answer.status == 201 else "was bound", answer.body["projected"]

    _each(out, users, one)


@click.command(epilog="Example: seatd unbind acme agent ana")
@click.argument("tenant")
@click.argument("product")
@click.argument("users", nargs=-1, required=True, metavar="USER...")
@speaks_api
def unbind(tenant: str, product: str, users: tuple[str, ...], *, api: Api, out: Output) -> None:
    """End bindings; a named seat ends with its binding."""

    def one(user: str) -> tuple[str, bool]:
        answer = api.call("DELETE", path("tenants", tenant, "bindings", product, user))
        return "unbound", answer.headers.get("Seatd-Projected") != "false"

    _each(out, users, one)


def _each(out: Output, users: tuple[str, ...], one: Callable[[str], tuple[str, bool]]) -> None:
    """Do it for each user, show each result, and fail at the end if any failed."""
    items: list[dict[str, Any]] = []
    projected = True
    for user in users:
        try:
            result, in_force = one(user)
            projected = projected and in_force
            items.append({"user": user, "result": result, "error": ""})
        except ApiError as error:
            if not error.code:  # nobody answers: the next would not fare better
                raise
            items.append({"user": user, "result": error.code, "error": error.message})
    rows = [(item["user"], item["result"], item["error"]) for item in items]
    columns = ("user", "result", "why") if any(item["error"] for item in items) else ("user", "result")
    rows_shown = [row[: len(columns)] for row in rows]
    out.answer({"items": items}, lambda: out.table(columns, rows_shown, empty=""))
    out.projected(projected=projected)
    if any(item["error"] for item in items):
        sys.exit(1)


@click.command(epilog="Example: seatd meter acme pages 120.5 --id scan-2026-03-01")
@click.argument("tenant")
@click.argument("product")
@click.argument("quantity")
@click.option("--id", "meter_id", required=True, help="Counts once: the same id again changes nothing.")
@click.option("--at", type=instant_ms, metavar="INSTANT", help="When it was used (default: now).")
@speaks_api
def meter(
    tenant: str, product: str, quantity: str, meter_id: str, at: int | None, *, api: Api, out: Output
) -> None:
    """Report a metered quantity."""
    wanted: dict[str, Any] = {"product": product, "quantity": quantity, "id": meter_id}
    if at is not None:
        wanted["at_ms"] = at
    answer = api.call("POST", path("tenants", tenant, "meter"), wanted)
    body = answer.body
    already = "" if answer.status == 201 else "already "
    out.answer(
        body,
        lambda: out.say(f"{body['quantity']} {product} {already}counted for {instant(body['at_ms'])}."),
    )
