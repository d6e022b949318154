"""`seatd tenant ...`, `seatd switch`, `seatd who`: tenants, their tariffs, and who sits."""

from typing import Any

import click

from seatd.cli.client import Api, ApiError, path, speaks_api
from seatd.cli.output import Output, instant, instant_ms

TARIFF = click.Choice(["team", "agent"])
QUANTITY = click.IntRange(min=0)


@click.group()
def tenant() -> None:
    """Make, change, show and list tenants."""


def _labels(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals:
            raise click.BadParameter(f"{value!r} is not NAME=TEXT.")
        labels[name] = text
    return labels


def _contract_options(function: Any) -> Any:
    for option in (
        click.option(
            "--label", "labels", multiple=True, callback=_labels, metavar="NAME=TEXT", help="For reports."
        ),
        click.option(
            "--trial-until", type=instant_ms, metavar="INSTANT", help="The tariff is on trial until then."
        ),
        click.option("--ttl-ms", type=int, help="How long a lease lives without renewal (default 300000)."),
        click.option("--seats", type=QUANTITY, help="How many of the tariff's seats to book."),
        click.option("--tariff", type=TARIFF, help="Floating seats, or seats of named users."),
        click.option("--customer", help="Who pays (default: the tenant)."),
    ):
        function = option(function)
    return function


def _said(options: dict[str, Any]) -> dict[str, Any]:
    names = {"ttl_ms": "lease_ttl_ms", "trial_until": "trial_until_ms"}
    return {
        names.get(name, name): value for name, value in options.items() if value is not None and value != {}
    }


@tenant.command(
    epilog="""\b
Examples:
  seatd tenant add acme --name "Acme support" --tariff team --seats 50
  seatd tenant add bolt --tariff agent --seats 12 --customer bolt-group
"""
)
@click.argument("tenant")
@click.option("--name", help="What people call it (default: its id).")
@_contract_options
@speaks_api
def add(tenant: str, name: str | None, *, api: Api, out: Output, **options: Any) -> None:
    """Make a tenant."""
    if _exists(api, tenant):
        raise ApiError(f"There is a tenant {tenant} already; `seatd tenant change {tenant}` changes it.")
    body = api.call("PUT", path("tenants", tenant), {"name": name or tenant, **_said(options)}).body
    out.answer(body, lambda: _draw(out, body))
    out.projected(projected=body["projected"])


def _exists(api: Api, tenant: str) -> bool:
    try:
        api.call("GET", path("tenants", tenant))
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


@tenant.command(
    epilog="""\b
Examples:
  seatd tenant change acme --seats 60
  seatd tenant change acme --suspend
"""
)
@click.argument("tenant")
@click.option("--name", help="What people call it.")
@_contract_options
@click.option("--suspend/--resume", "suspended", default=None, help="Stop its work, or let it go on.")
@click.option("--end-contract", is_flag=True, help="Take the tariff away; leases end.")
@click.option("--end-trial", is_flag=True, help="Take the trial up: the tariff is charged from now on.")
@speaks_api
def change(
    tenant: str, *, end_contract: bool, end_trial: bool, api: Api, out: Output, **options: Any
) -> None:
    """Change a tenant; what is not named stays."""
    said = _said(options)
    if end_contract:
        said["tariff"] = None
    if end_trial:
        said["trial_until_ms"] = None
    if not said:
        raise click.UsageError("Name what to change.")
    api.call("GET", path("tenants", tenant))
    body = api.call("PUT", path("tenants", tenant), said).body
    out.answer(body, lambda: _draw(out, body))
    out.projected(projected=body["projected"])


@tenant.command(epilog="Example: seatd tenant show acme")
@click.argument("tenant")
@speaks_api
def show(tenant: str, *, api: Api, out: Output) -> None:
    """Show a tenant: tariff, bookings, seats in use."""
    body = api.call("GET", path("tenants", tenant)).body
    out.answer(body, lambda: _draw(out, body))


@tenant.command("list", epilog="Example: seatd tenant list --json")
@speaks_api
def list_(*, api: Api, out: Output) -> None:
    """List all tenants, with seats in use."""
    items = list(api.pages(path("tenants")))
    columns = ("tenant", "name", "customer", "tariff", "in use#", "seats#", "named#", "state")
    rows = (
        (
            item["tenant"],
            item["name"],
            item["customer"],
            item["tariff"] or "none",
            "?" if item["in_use"] is None else item["in_use"],
            item["capacity"],
            item["bindings"],
            _state(item),
        )
        for item in items
    )
    out.answer({"items": items}, lambda: out.table(columns, rows, empty="There are no tenants yet."))


def _state(item: dict[str, Any]) -> str:
    if item["suspended"]:
        return f"suspended since {instant(item['suspended_since_ms'])}"
    return f"trial until {instant(item['trial_until_ms'])}" if item["trial"] else ""


def _draw(out: Output, body: dict[str, Any]) -> None:
    in_use = "?" if body["in_use"] is None else body["in_use"]
    waiting = f", {body['waiting']} wait" if body["waiting"] else ""
    out.facts(
        [
            ("tenant", body["tenant"]),
            ("name", body["name"]),
            ("customer", body["customer"]),
            ("tariff", f"{body['tariff'] or 'none'} since {instant(body['tariff_since_ms'])}"),
            ("state", _state(body)),
            ("in use", f"{in_use} of {body['capacity']} seats{waiting}"),
            ("named", f"{body['bindings']} bindings"),
            ("lease ttl", f"{body['lease_ttl_ms']} ms"),
            ("labels", ", ".join(f"{name}={text}" for name, text in sorted(body["labels"].items()))),
        ]
    )
    rows = [
        (row["product"], row["quantity"], row["state"], instant(row["effective_ms"]))
        for row in body["bookings"]
    ]
    out.table(("booked", "quantity#", "state", "from"), rows, empty="Nothing is booked.")


@click.command(
    epilog="""\b
Examples:
  seatd switch acme agent --seats 40
  seatd switch acme team
"""
)
@click.argument("tenant")
@click.argument("tariff", type=TARIFF)
@click.option("--seats", type=QUANTITY, help="How many of its seats to book.")
@speaks_api
def switch(tenant: str, tariff: str, seats: int | None, *, api: Api, out: Output) -> None:
    """Switch a tenant's tariff now; leases of the other tariff end."""
    wanted = {"tariff": tariff} | ({} if seats is None else {"seats": seats})
    body = api.call("POST", path("tenants", tenant, "tariff"), wanted).body
    out.answer(body, lambda: _draw(out, body))
    out.projected(projected=body["projected"])


@click.command(epilog="Example: seatd who acme")
@click.argument("tenant")
@speaks_api
def who(tenant: str, *, api: Api, out: Output) -> None:
    """Show who holds which seat, since when, until when."""
    items = list(api.pages(path("tenants", tenant, "leases")))
    columns = ("user", "client", "tariff", "since", "until", "ending", "lease")
    rows = (
        (
            item["user"],
            item["client"],
            item["tariff"],
            instant(item["since_ms"]),
            instant(item["expires_ms"]),
            item.get("ending", ""),
            item["lease"],
        )
        for item in items
    )
    out.answer({"items": items}, lambda: out.table(columns, rows, empty=f"Nobody sits at {tenant}."))
