"""Corrections of closed months: what a month that is closed would say today, less what it said.

Decides the form: for each product whose lines are no longer what was billed, every line that was billed with its quantity
and net negated, then every line that would be billed today.  What was billed is the closed lines, and the corrections
of them since.  Lines are rows of text in the order of `export.CHARGE_COLUMNS`; nothing is rated here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from seatd.billing.export import CHARGE_COLUMNS, Row

CORRECTION_COLUMNS: Final = (*CHARGE_COLUMNS, "correction_of")
_PERIOD, _PRODUCT, _QUANTITY, _NET = (
    CHARGE_COLUMNS.index(name) for name in ("period", "product", "quantity", "net")
)


class Corrected(NamedTuple):
    """A tenant's corrections, and the history of each month that they correct, as it is known now."""

    rows: tuple[Row, ...] = ()
    history: tuple[bytes, ...] = ()


def corrections(billed: Sequence[Row], today: Sequence[Row], *, period: str) -> list[Row]:
    """Correct one tenant's closed month in the month `period`; none where nothing changed.

    `billed` and `today` are rows of the closed month.
    """
    products = sorted({row[_PRODUCT] for row in (*billed, *today)})
    rows: list[Row] = []
    for product in products:
        was = [row for row in billed if row[_PRODUCT] == product]
        now = [row for row in today if row[_PRODUCT] == product]
        if Counter(was) != Counter(now):
            rows += [_correction(negated(row), period) for row in was]
            rows += [_correction(row, period) for row in now]
    return rows


def billed_by_now(closed: Iterable[Row], since: Iterable[Row]) -> list[Row]:
    """Apply corrections (14 columns) of a closed month, in the order of their months, to its closed rows."""
    rows = list(closed)
    for correction in since:
        row = _with(correction[:-1], _PERIOD, correction[-1])
        if negated(row) in rows:
            rows.remove(negated(row))
        else:
            rows.append(row)
    return rows


def negated(row: Row) -> Row:
    """Turn the sign of a row's quantity and net."""
    return _with(_with(row, _QUANTITY, _minus(row[_QUANTITY])), _NET, _minus(row[_NET]))


def _minus(text: str) -> str:
    if not text.strip("0."):
        return text
    return text.removeprefix("-") if text.startswith("-") else f"-{text}"


def _correction(row: Row, period: str) -> Row:
    return (*_with(row, _PERIOD, period), row[_PERIOD])


def _with(row: Row, at: int, value: str) -> Row:
    return (*row[:at], value, *row[at + 1 :])
