"""`seatd billing rate`: a month's charges or usage from files alone, without server or database.

Standard output is written only once everything has been read and found right.
"""

import sys
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Final

import click

from seatd.billing.coverage import check_products
from seatd.billing.export import Format, charges_file, usage_file
from seatd.billing.history import History, HistoryError
from seatd.billing.historyfile import read_history
from seatd.billing.months import Month, first_day
from seatd.billing.rating import Charge
from seatd.billing.rating import rate as rate_tenant
from seatd.billing.report import Usage
from seatd.billing.report import usage as usage_of
from seatd.catalogue.pricelist import PriceList, PriceListError, in_force
from seatd.catalogue.pricelist_toml import parse_price_list
from seatd.catalogue.toml_lines import line_of

_EXIT_BAD_INPUT: Final = 2


@click.command("rate")
@click.option(
    "--history",
    "histories",
    multiple=True,
    required=True,
    metavar="H.jsonl",
    help="History file; may be repeated.",
)
@click.option(
    "--price-list",
    "lists",
    multiple=True,
    required=True,
    metavar="P.toml",
    help="Price list; may be repeated: the one in force is taken.",
)
@click.option("--period", required=True, metavar="YYYY-MM", help="The month.")
@click.option(
    "--format", "file_format", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True
)
@click.option("--usage", "usage_only", is_flag=True, help="Report the usage in place of the charges.")
def rate(
    histories: tuple[str, ...], lists: tuple[str, ...], period: str, file_format: Format, usage_only: bool
) -> None:
    """Compute what a month costs from history files and price lists alone.

    Needs no server and no database.  Any error: exit status 2, a message that names file and line, and
    nothing on standard output.

    \b
    Example:
      seatd billing rate --history march.jsonl --price-list prices.toml --period 2026-03
    """  # noqa: D301 - click reads the \b as "keep these lines"
    try:
        lines = _lines(histories, lists, period, file_format, usage_only=usage_only)
    except (HistoryError, PriceListError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_EXIT_BAD_INPUT)
    out = sys.stdout.buffer
    for line in lines:
        out.write(line)
    out.flush()


def read_price_list(path: str) -> PriceList:
    """Read and check the price list in a file; `PriceListError` names file and line."""
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise PriceListError(f"cannot be read: {error.strerror}", source=path) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PriceListError("not UTF-8", source=path, line=line) from error
    return parse_price_list(text, source=path)


def read_histories(paths: Iterable[str]) -> History:
    """Read history files as one; `HistoryError` names file and line."""
    history = History()
    for path in paths:
        try:
            with Path(path).open("rb") as lines:
                for place, event in read_history(lines, path):
                    history.add(event, place)
        except OSError as error:
            raise HistoryError(f"{path}: cannot be read: {error.strerror}") from error
    history.check()
    return history


def _lines(
    histories: tuple[str, ...], lists: tuple[str, ...], period: str, file_format: Format, *, usage_only: bool
) -> Iterator[bytes]:
    """Read and check everything, and return the lines of the answer, not yet made."""
    first = _first_day(period)
    price_lists = [read_price_list(path) for path in lists]
    price_list = _in_force(price_lists, first, lists)
    month = Month.parse(period, price_list.timezone)
    history = read_histories(histories)
    check_products(history, price_lists, price_list, month)
    if usage_only:
        return usage_file(_usages(history, month), file_format)
    return charges_file(_charges(history, price_list, month), file_format)


def _first_day(period: str) -> date:
    try:
        return first_day(period)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--period") from error


def _in_force(price_lists: list[PriceList], first: date, paths: Iterable[str]) -> PriceList:
    try:
        return in_force(price_lists, first)
    except PriceListError as error:
        # What was wrong stands where each list says from when it is valid.
        lines = {path: line_of(Path(path).read_text(errors="replace"), ("valid_from",)) for path in paths}
        raise PriceListError(
            error.reason, source=", ".join(f"{path}:{line}" for path, line in lines.items())
        ) from None


def _charges(history: History, price_list: PriceList, month: Month) -> Iterator[Charge]:
    for facts in history.all_facts():
        yield from rate_tenant(facts, price_list, month)


def _usages(history: History, month: Month) -> Iterator[Usage]:
    for facts in history.all_facts():
        if line := usage_of(facts, month):
            yield line
