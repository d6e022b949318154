"""Verify an evidence bundle with the very core that rates months, beside the script that lies in the bundle.

The script holds digests, signature and chain, and reckons the charges in its own way; here charges and usage are made again from history
and price list as the service made them, to the byte.  Two ways that share no line must agree.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from seatd.billing import verify_bundle
from seatd.billing.export import Format, charges_file, usage_file
from seatd.billing.history import History, HistoryError
from seatd.billing.historyfile import read_history
from seatd.billing.months import Month
from seatd.billing.rating import rate
from seatd.billing.report import usage
from seatd.catalogue.pricelist import PriceListError
from seatd.catalogue.pricelist_toml import parse_price_list
from seatd.usage.intervals import FOREVER_MS

_FORMATS: tuple[Format, ...] = ("csv", "jsonl")


def verify(bundle: Path, kid: str = "") -> tuple[list[str], dict[str, bytes]]:
    """Name what is wrong with a bundle, and give its files; OSError where it cannot be read."""
    found: list[str] = []
    files = verify_bundle.read(bundle, found)
    found += verify_bundle.check(files, kid)
    if not found:
        found += _made_again(files)
    return found, files


def _made_again(files: Mapping[str, bytes]) -> Iterator[str]:
    try:
        signed = verify_bundle.signed_of(files)
        month = Month.parse(signed["period"], signed["timezone"])
        price_list = parse_price_list(files["prices.toml"].decode(), source="prices.toml")
        history = History()
        for place, event in read_history(files["history.jsonl"].splitlines(keepends=True), "history.jsonl"):
            history.add(event, place)
        history.check()
    except (HistoryError, PriceListError, ValueError) as error:
        yield str(error)
        return
    facts = list(history.all_facts())
    charges = [charge for each in facts for charge in rate(each, price_list, month, FOREVER_MS)]
    used = [line for each in facts if (line := usage(each, month))]
    for each in _FORMATS:
        for name, made in (("charges", charges_file(charges, each)), ("usage", usage_file(used, each))):
            stated = files[f"{name}.{each}"].splitlines(keepends=True)
            again = b"".join(made).splitlines(keepends=True)
            lines = range(max(len(stated), len(again)))
            wrong = [number for number in lines if stated[number : number + 1] != again[number : number + 1]]
            if wrong:
                yield f"{name}.{each}: line {wrong[0] + 1} is not what history and price list give"
