"""`seatd billing ...`: price lists, months, charges and usage; a month from files alone is `rate`'s.

Amounts come from the server as text and are printed as they came: nothing is reckoned here.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from seatd.catalogue.pricelist import PriceList, PriceListError
from seatd.cli.client import Api, path, speaks_api
from seatd.cli.closing import archive, close, verify
from seatd.cli.inquiries import advise, peak, preview, what_if
from seatd.cli.output import Output, instant
from seatd.cli.rate import rate, read_price_list

_EXIT_BAD_INPUT: Final = 2


@click.group()
def billing() -> None:
    """Price lists, months, charges and usage."""


for command in (advise, archive, close, peak, preview, rate, verify, what_if):
    billing.add_command(command)


@billing.group()
def prices() -> None:
    """Add, list and check price lists."""


def _read(file: Path) -> PriceList:
    try:
        return read_price_list(str(file))
    except PriceListError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_EXIT_BAD_INPUT)


@prices.command(epilog="\b\nExample:\n  seatd billing prices check prices.toml")
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a price list; needs no server.  Exit status 2, with line and reason, where it is wrong."""
    price_list = _read(file)
    click.echo(
        f"{file}: price list {price_list.version}, valid from {price_list.valid_from}, "
        f"{len(price_list.products)} products in {price_list.currency}."
    )


@prices.command(epilog="\b\nExample:\n  seatd billing prices add prices.toml")
@click.argument("file", type=click.Path(path_type=Path))
@speaks_api
def add(file: Path, api: Api, out: Output) -> None:
    """Add a price list; the same again changes nothing, other content under a version is refused."""
    _read(file)
    answer = api.call(
        "POST", path("billing", "price-lists"), raw=file.read_bytes(), content_type="application/toml"
    )
    done = "was added" if answer.status == 201 else "stood already"
    sentence = f"Price list {answer.body['version']}, valid from {answer.body['valid_from']}, {done}."
    out.answer(answer.body, lambda: out.say(sentence))


@prices.command("list", epilog="\b\nExample:\n  seatd billing prices list")
@speaks_api
def list_(api: Api, out: Output) -> None:
    """List price lists, by the date from which they are valid."""
    items = api.call("GET", path("billing", "price-lists")).body["items"]
    rows = [
        (
            each["version"],
            each["valid_from"],
            each["currency"],
            len(each["products"]),
            instant(each["added_ms"]),
        )
        for each in items
    ]
    columns = ["Version", "Valid from", "Currency", "Products#", "Added"]
    out.answer(items, lambda: out.table(columns, rows, empty="There is no price list."))


@billing.command(
    epilog="\b\nExample:\n  seatd billing export 2026-03 --what charges --format csv -o charges.csv"
)
@click.argument("month", metavar="YYYY-MM")
@click.option(
    "--what",
    type=click.Choice(["charges", "usage", "intervals", "datev"]),
    default="charges",
    show_default=True,
    help="datev: the booking batch of a closed month.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
)
@click.option(
    "--file", "name", metavar="NAME", help="A file of a closed month, as its manifest.json names it."
)
@click.option(
    "--evidence", metavar="TENANT", help="The evidence bundle of a tenant, of a closed month (tar.gz)."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File (default: standard output)."
)
@speaks_api
def export(
    *,
    month: str,
    what: str,
    file_format: str,
    name: str | None,
    evidence: str | None,
    output: Path | None,
    api: Api,
    out: Output,
) -> None:
    """Write a month's charges, usage or leases, or of a closed month any of its files; it appears whole, or not at all."""
    if what == "datev" and file_format != "csv":
        raise click.UsageError("A booking batch is CSV.")
    route = f"{path('billing', month)}/{what}.{file_format}"
    if name or evidence:
        if name and evidence:
            raise click.UsageError("--file and --evidence: one of them.")
        route = (
            path("billing", month, "files", name)
            if name
            else path("billing", month, "evidence", evidence or "")
        )
    coming = out.watched(api.download(route), f"{month}: {route.rpartition('/')[2]}")
    if output is None:
        for chunk in coming:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    written = _write_whole(output, coming)
    out.answer({"file": str(output), "bytes": written}, lambda: out.say(f"Wrote {output}, {written} bytes."))


def _write_whole(output: Path, coming: Iterable[bytes]) -> int:
    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            written = sum(file.write(chunk) for chunk in coming)
        beside.replace(output)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}.") from None
    finally:
        beside.unlink(missing_ok=True)
    return written
