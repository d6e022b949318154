"""A closed month as a DATEV booking batch: EXTF, header version 700, category 21, format version 13.

Decides how charges become bookings: one a customer, VAT rate and revenue account, gross, debtor to revenue; the tax of a
rate is reckoned once a tenant, as on the bill, and shared out to the cent.  What is negative is booked the other
way round.  Which account is whose is said by the settings, never guessed.  Pure.

Source: DATEV developer portal, DATEV-Format, "Header" and "Buchungsstapel".
"""

import calendar
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from operator import itemgetter
from typing import Final

from seatd.billing.amounts import exact_sum, plain, round_half_up

ENCODING: Final = "cp1252"
_END: Final = "\r\n"
_TEXT_MAX: Final = 60
_DOCUMENT_MAX: Final = 36
_BATCH_NAME_MAX: Final = 30
_DOCUMENT_EXTRA: Final = frozenset("$%&*+-/")

COLUMNS: Final = (
    "Umsatz (ohne Soll/Haben-Kz)", "Soll/Haben-Kennzeichen", "WKZ Umsatz", "Kurs", "Basis-Umsatz", "WKZ Basis-Umsatz",
    "Konto", "Gegenkonto (ohne BU-Schlüssel)", "BU-Schlüssel", "Belegdatum", "Belegfeld 1", "Belegfeld 2", "Skonto",
    "Buchungstext", "Postensperre", "Diverse Adressnummer", "Geschäftspartnerbank", "Sachverhalt", "Zinssperre",
    "Beleglink",
    *(f"Beleginfo - {what} {n}" for n in range(1, 9) for what in ("Art", "Inhalt")),
    "KOST1 - Kostenstelle", "KOST2 - Kostenstelle", "Kost-Menge", "EU-Land u. UStID (Bestimmung)",
    "EU-Steuersatz (Bestimmung)", "Abw. Versteuerungsart", "Sachverhalt L+L", "Funktionsergänzung L+L",
    "BU 49 Hauptfunktionstyp", "BU 49 Hauptfunktionsnummer", "BU 49 Funktionsergänzung",
    *(f"Zusatzinformation{what} {n}" for n in range(1, 21) for what in (" - Art", "- Inhalt")),
    "Stück", "Gewicht", "Zahlweise", "Forderungsart", "Veranlagungsjahr", "Zugeordnete Fälligkeit", "Skontotyp",
    "Auftragsnummer", "Buchungstyp", "USt-Schlüssel (Anzahlungen)", "EU-Land (Anzahlungen)",
    "Sachverhalt L+L (Anzahlungen)", "EU-Steuersatz (Anzahlungen)", "Erlöskonto (Anzahlungen)", "Herkunft-Kz",
    "Buchungs GUID", "KOST-Datum", "SEPA-Mandatsreferenz", "Skontosperre", "Gesellschaftername", "Beteiligtennummer",
    "Identifikationsnummer", "Zeichnernummer", "Postensperre bis", "Bezeichnung SoBil-Sachverhalt",
    "Kennzeichen SoBil-Buchung", "Festschreibung", "Leistungsdatum", "Datum Zuord. Steuerperiode", "Fälligkeit",
    "Generalumkehr (GU)", "Steuersatz", "Land", "Abrechnungsreferenz", "BVV-Position", "EU-Land u. UStID (Ursprung)",
    "EU-Steuersatz (Ursprung)", "Abw. Skontokonto",
)  # fmt: skip
_FINAL: Final = COLUMNS.index("Festschreibung")


@dataclass(frozen=True, slots=True)
class Revenue:
    """Where the net of a VAT rate goes: a revenue account, and its tax key where it is not automatic (else empty)."""

    account: str
    tax_key: str = ""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The account mapping: DATEV's numbers, revenue by VAT rate and by product, debtors by customer.

    `rates` is by percent, in plain writing ("19"); `products`, by product id, goes before it.  `debtor`: all customers
    who have none of their own; empty: each must.
    """

    consultant: int
    client: int
    rates: Mapping[str, Revenue]
    products: Mapping[str, Revenue] = field(default_factory=dict)
    debtors: Mapping[str, str] = field(default_factory=dict)
    debtor: str = ""
    chart: str = ""
    account_length: int = 4
    fiscal_year_month: int = 1
    final: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """What a charge or a correction contributes: net has two decimals, `vat_rate` is in percent."""

    tenant: str
    customer: str
    product: str
    vat_rate: Decimal
    net: Decimal


class UnmappedError(ValueError):
    """Customers or products have no account; `missing` names them, sorted."""

    def __init__(self, missing: Iterable[str]) -> None:
        self.missing = tuple(sorted(set(missing)))
        super().__init__("no account: " + ", ".join(self.missing))


@dataclass(frozen=True, slots=True)
class _Batch:
    accounts: Accounts
    period: str
    currency: str
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class _Booking:
    tenant: str
    debtor: str
    revenue: Revenue
    gross: Decimal


def booking_batch(
    lines: Iterable[Line], accounts: Accounts, *, period: str, currency: str, made_at: datetime
) -> bytes:
    """Write a month's lines as one EXTF file, in code page 1252; raises `UnmappedError` where an account is missing."""
    bookings = list(_bookings(list(lines), accounts))
    batch = _Batch(accounts, period, currency, *_first_and_last(period))
    rows = [_header(batch, made_at), ";".join(COLUMNS), *(_row(booking, batch) for booking in bookings)]
    return (_END.join(rows) + _END).encode(ENCODING)


def _bookings(lines: list[Line], accounts: Accounts) -> Iterator[_Booking]:
    missing = {f"customer {each.customer}" for each in lines if not _debtor(each.customer, accounts)}
    missing |= {f"VAT {plain(each.vat_rate)} %" for each in lines if _revenue(each, accounts) is None}
    if missing:
        raise UnmappedError(missing)
    groups: dict[tuple[str, Decimal], list[Line]] = {}
    for each in lines:
        groups.setdefault((each.tenant, each.vat_rate), []).append(each)
    for (tenant, rate), of_rate in sorted(groups.items(), key=itemgetter(0)):
        debtor, nets = _debtor(of_rate[0].customer, accounts), _nets(of_rate, accounts)
        for revenue, gross in _shared(nets, rate):
            if gross:
                yield _Booking(tenant, debtor, revenue, gross)


def _nets(lines: list[Line], accounts: Accounts) -> dict[Revenue, Decimal]:
    """Add up nets by account, sorted: the same lines make the same bookings."""
    nets: dict[Revenue, list[Decimal]] = {}
    for each in lines:
        if revenue := _revenue(each, accounts):
            nets.setdefault(revenue, []).append(each.net)
    return {revenue: exact_sum(nets[revenue]) for revenue in sorted(nets, key=_by_account)}


def _shared(nets: Mapping[Revenue, Decimal], rate: Decimal) -> Iterator[tuple[Revenue, Decimal]]:
    """Give each account its gross, so that together they have the tax of the rate, reckoned once."""
    taxed, so_far = Decimal(0), Decimal(0)
    for revenue, net in nets.items():
        taxed = exact_sum([taxed, net])
        tax = round_half_up(Fraction(taxed) * Fraction(rate) / 100, 2)
        yield revenue, exact_sum([net, tax, -so_far])
        so_far = tax


def _debtor(customer: str, accounts: Accounts) -> str:
    return accounts.debtors.get(customer, accounts.debtor)


def _revenue(line: Line, accounts: Accounts) -> Revenue | None:
    return accounts.products.get(line.product) or accounts.rates.get(plain(line.vat_rate))


def _by_account(revenue: Revenue) -> tuple[str, str]:
    return revenue.account, revenue.tax_key


def _first_and_last(period: str) -> tuple[date, date]:
    year, month = int(period[:4]), int(period[5:])
    return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])


def _text(value: str, most: int) -> str:
    printable = "".join(each for each in value if each.isprintable())
    cut = printable.encode(ENCODING, "replace").decode(ENCODING)[:most]
    return '"' + cut.replace('"', '""') + '"'


def _header(batch: _Batch, made_at: datetime) -> str:
    accounts, first, period = batch.accounts, batch.first, batch.period
    begins = date(first.year - (first.month < accounts.fiscal_year_month), accounts.fiscal_year_month, 1)
    made = f"{made_at:%Y%m%d%H%M%S}{made_at.microsecond // 1000:03}"
    name = _text(f"seatd {period}", _BATCH_NAME_MAX)
    fields = [
        '"EXTF"', "700", "21", '"Buchungsstapel"', "13", made, "", '"SD"', '""', '""',
        str(accounts.consultant), str(accounts.client), f"{begins:%Y%m%d}", str(accounts.account_length),
        f"{first:%Y%m%d}", f"{batch.last:%Y%m%d}", name, '""', "1", "0", str(int(accounts.final)), _text(batch.currency, 3),
        "", '""', "", "", _text(accounts.chart, 2), "", "", '""', '""',
    ]  # fmt: skip
    return ";".join(fields)


def _row(booking: _Booking, batch: _Batch) -> str:
    document = "".join(
        each if (each.isascii() and each.isalnum()) or each in _DOCUMENT_EXTRA else "-"
        for each in f"{batch.period}-{booking.tenant}"
    )
    fields = [""] * len(COLUMNS)
    fields[0] = f"{abs(booking.gross):.2f}".replace(".", ",")
    fields[1] = '"H"' if booking.gross < 0 else '"S"'
    fields[2] = _text(batch.currency, 3)
    fields[6], fields[7] = booking.debtor, booking.revenue.account
    fields[8] = _text(booking.revenue.tax_key, 4)
    fields[9] = f"{batch.last:%d%m}"
    fields[10] = _text(document, _DOCUMENT_MAX)
    fields[13] = _text(f"seatd {batch.period} {booking.tenant}", _TEXT_MAX)
    fields[_FINAL] = str(int(batch.accounts.final))
    return ";".join(fields)
