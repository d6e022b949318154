"""`seatd billing preview|advise|peak|what-if`: questions about months, answered in tables and sentences.

Amounts come from the server as text and are printed as they came: nothing is reckoned here.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from seatd.cli.client import Api, path, speaks_api
from seatd.cli.output import Output, instant

_MONTH: Final = click.argument("month", metavar="YYYY-MM", required=False)


def this_month() -> str:
    """Name the month that it is here."""
    return f"{datetime.now(UTC).astimezone():%Y-%m}"


@click.command(
    epilog="\b\nExamples:\n  seatd billing preview\n  seatd billing preview 2026-03\n  seatd billing preview 2026-03 --tenant acme"
)
@_MONTH
@click.option("--tenant", metavar="T", help="One tenant: to date, projected, and why it differs.")
@speaks_api
def preview(*, month: str | None, tenant: str | None, api: Api, out: Output) -> None:
    """Show what a month (default: this one) comes to by now and looks to end at, and what is open about it."""
    month = month or this_month()
    told = api.call("GET", path("billing", month, "explanation"), tenant=tenant).body
    if tenant is not None:
        out.answer(told, lambda: _draw_explained(told, out))
        return
    body = api.call("GET", path("billing", month)).body
    projections = {each["tenant"]: each for each in told["tenants"]}
    for each in body["tenants"]:
        more = projections.get(each["tenant"], {})
        each |= {name: more[name] for name in ("projected", "before", "differences") if name in more}
    body["compared_with"] = told["compared_with"]
    out.answer(body, lambda: _draw_preview(body, out))


def _draw_preview(body: dict[str, Any], out: Output) -> None:
    currency, before = body["currency"], body["compared_with"]
    out.say(f"{body['period']} ({body['status']}), price list {body['price_list']}, {body['timezone']}")
    columns = ["Tenant", f"Net {currency}#", f"VAT {currency}#", f"Gross {currency}#", "Projected net#"]
    rows = [
        (each["tenant"], each["net"], each["vat"], each["gross"], each.get("projected", ""))
        for each in body["tenants"]
    ]
    if len(rows) > 1:
        rows.append(("all", body["net"], body["vat"], body["gross"], ""))
    out.table(columns, rows, empty="Nobody had a tariff or a seat in this month.")
    for each in body["tenants"]:
        for difference in each.get("differences", ()) if before else ():
            out.say(f"{each['tenant']}: {_signed(difference['difference'])} {difference['sentence']}")
    for question in body["questions"]:
        out.say(f"Open: {question['detail']}")


def _draw_explained(told: dict[str, Any], out: Output) -> None:
    currency, before = told["currency"], told["compared_with"]
    out.say(f"{told['period']}, price list {told['price_list']}, net in {currency}")
    rows = [(each["tenant"], each["to_date"], each["projected"], each["before"]) for each in told["tenants"]]
    columns = ["Tenant", "To date#", "Projected#", f"{before or 'Month before'}#"]
    out.table(columns, rows, empty="Nothing is charged in this month or was in the one before.")
    if before is None:
        out.say("No price list was in force in the month before: nothing to compare with.")
        return
    for each in told["tenants"]:
        for difference in each["differences"]:
            out.say(f"{_signed(difference['difference'])}  {difference['sentence']}")


def _signed(amount: str) -> str:
    return amount if amount.startswith("-") else f"+{amount}"


@click.command(
    epilog="\b\nExamples:\n  seatd billing advise --tenant acme\n  seatd billing advise 2026-03 --tenant acme --json"
)
@_MONTH
@click.option("--tenant", metavar="T", required=True, help="Whose seats.")
@speaks_api
def advise(*, month: str | None, tenant: str, api: Api, out: Output) -> None:
    """Price a tenant's month under Team and under Agent, and say what fewer seats would have refused."""
    body = api.call("GET", path("billing", month or this_month(), "advice"), tenant=tenant).body
    out.answer(body, lambda: _draw_advice(body, out))


def _draw_advice(body: dict[str, Any], out: Output) -> None:
    out.say(f"{body['tenant']}, {body['period']}: seats, net in {body['currency']}, add-ons aside")
    rows = [("as it is", body["as_it_is"])]
    if body["team"] is not None:
        rows.append((f"Team with {body['peak']} seats, as the peak wanted", body["team"]))
    if body["agent"] is not None:
        rows.append((f"Agent with {body['users']} named, all who sat", body["agent"]))
    out.table(["Tariff", "Net#"], rows, empty="")
    if body["break_even_users"] is not None:
        out.say(
            f"A whole month of Agent costs more than Team with {body['peak']} seats from {body['break_even_users']} named users on."
        )
    out.say(
        f"{body['logins']} logins got a seat, {body['denied']} were refused.  95 % of the time {body['p95']} seats would do."
    )
    columns = ["Team seats#", "Net#", "Logins refused#"]
    seats = [(each["seats"], each["net"], each["refused"]) for each in body["seats"]]
    out.table(columns, seats, empty="Nobody sat: there is no demand to go by.")


@click.command(
    epilog="\b\nExamples:\n  seatd billing peak 2026-03 --tenant acme\n  seatd billing peak 2026-03 --tenant acme --names"
)
@_MONTH
@click.option("--tenant", metavar="T", required=True, help="Whose peak.")
@click.option("--names", is_flag=True, help="Show names beside the ids (not for the customer's copy).")
@speaks_api
def peak(*, month: str | None, tenant: str, names: bool, api: Api, out: Output) -> None:
    """Show who sat when a tenant's month was fullest: the peak's witnesses, by pseudonym."""
    asked = "true" if names else None
    body = api.call("GET", path("billing", month or this_month(), "peak"), tenant=tenant, names=asked).body
    out.answer(body, lambda: _draw_peak(body, out))


def _draw_peak(body: dict[str, Any], out: Output) -> None:
    if body["at_ms"] is None:
        out.say(f"Nobody sat at {body['tenant']} in {body['period']}.")
        return
    out.say(f"{body['tenant']}, {body['period']}: {body['peak']} sat at {instant(body['at_ms'])}.")
    rows = [(each["user"], each.get("name", ""), instant(each["since_ms"])) for each in body["witnesses"]]
    out.table(["User", "Name", "Since"], rows, empty="")


@click.command(
    "what-if",
    epilog="\b\nExamples:\n  seatd billing what-if 2026-01 --quantity team=40\n"
    "  seatd billing what-if 2026-01 --months 3 --price-list new.toml --tenant acme\n"
    "  seatd billing what-if 2026-01 --tariff agent",
)
@click.argument("first", metavar="YYYY-MM")
@click.option("--months", type=click.IntRange(1, 12), default=3, show_default=True, help="How many months.")
@click.option("--tenant", metavar="T", help="One tenant (default: all).")
@click.option(
    "--price-list", type=click.Path(path_type=Path, dir_okay=False), help="Suppose this price list."
)
@click.option("--quantity", "quantities", multiple=True, metavar="PRODUCT=N", help="Suppose this booking.")
@click.option("--tariff", type=click.Choice(["team", "agent"]), help="Suppose this tariff.")
@speaks_api
def what_if(
    *,
    first: str,
    months: int,
    tenant: str | None,
    price_list: Path | None,
    quantities: tuple[str, ...],
    tariff: str | None,
    api: Api,
    out: Output,
) -> None:
    """Reckon past months again with another price list, other quantities, or the other tariff.

    A supposed number of Team seats is also played against the logins that were: how many it would have refused.
    """
    body = {
        "first": first,
        "months": months,
        "tenant": tenant,
        "price_list": _text(price_list),
        "quantities": dict(_quantity(each) for each in quantities),
        "tariff": tariff,
    }
    answer = api.call("POST", "/v1/billing/what-if", body).body
    out.answer(answer, lambda: _draw_what_if(answer["items"], out))


def _text(price_list: Path | None) -> str | None:
    try:
        return price_list.read_text() if price_list else None
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{price_list} cannot be read: {error}.") from None


def _quantity(text: str) -> tuple[str, int]:
    product, equals, number = text.partition("=")
    if not product or not equals or not number.isascii() or not number.isdigit():
        raise click.BadParameter(f"{text!r} is not PRODUCT=N, as in team=40.", param_hint="--quantity")
    return product, int(number)


def _draw_what_if(items: list[dict[str, Any]], out: Output) -> None:
    rows = [
        (
            each["period"],
            each["tenant"],
            f"{each['net']} {each['currency']}",
            f"{each['supposed_net']} {each['supposed_currency']}",
            each["refused"],
        )
        for each in items
    ]
    columns = ["Month", "Tenant", "As it is#", "Supposed#", "Logins refused#"]
    out.table(columns, rows, empty="Nobody was charged in these months, or would have been.")
