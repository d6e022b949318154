"""The files of a closed month: the one list of them, and what each says of a tenant.

Every file is a head and then each tenant's lines, tenants in code-point order; so a tenant's own file is the head and its
lines.  A new export is a line in `FILES`.  How files are kept is `closed_months`', and when they are made `closing`'s.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from seatd.billing import verify_bundle
from seatd.billing.corrections import CORRECTION_COLUMNS, Corrected
from seatd.billing.export import (
    CHARGE_COLUMNS,
    INTERVAL_COLUMNS,
    USAGE_COLUMNS,
    Row,
    charge_row,
    charges_file,
    csv_line,
    rows_file,
    usage_file,
)
from seatd.billing.historywriting import Told, instant, told
from seatd.billing.months import Month
from seatd.flows.month_facts import MonthFacts, told_events
from seatd.flows.months import OpenMonth, Rated, rate_tenant, totals_of
from seatd.model import Kind
from seatd.usage.chain import Link


@dataclass(frozen=True, slots=True)
class TenantMonth:
    """One tenant's closed month: what is known, what it costs, and what corrects earlier months."""

    loaded: MonthFacts
    opened: OpenMonth
    rated: Rated
    history: Told
    links: tuple[Link, ...]
    corrections: Corrected

    @classmethod
    def of(
        cls, loaded: MonthFacts, links: tuple[Link, ...], corrections: Corrected, opened: OpenMonth
    ) -> "TenantMonth":
        """Rate what was loaded, and tell its history."""
        history = told(told_events(loaded, opened.month), opened.month, opened.price_list.products.keys())
        return cls(loaded, opened, rate_tenant(loaded, opened), history, links, corrections)


def _charges_csv(month: TenantMonth) -> bytes:
    return b"".join(csv_line(charge_row(charge)) for charge in month.rated.charges)


def _charges_jsonl(month: TenantMonth) -> bytes:
    return b"".join(charges_file(month.rated.charges, "jsonl"))


def _usage_csv(month: TenantMonth) -> bytes:
    _, *lines = usage_file([month.rated.usage] if month.rated.usage else [], "csv")
    return b"".join(lines)


def _usage_jsonl(month: TenantMonth) -> bytes:
    return b"".join(usage_file([month.rated.usage] if month.rated.usage else [], "jsonl"))


def _totals(month: TenantMonth) -> bytes:
    if not month.rated.charges and not month.rated.usage:
        return b""
    totals = totals_of(month.rated, month.opened.price_list)
    rates = [
        {"vat_rate": each.vat_rate.text, "net": f"{each.net:.2f}", "vat": f"{each.vat:.2f}"}
        for each in totals.by_rate
    ]
    sums = {name: f"{getattr(totals, name):.2f}" for name in ("net", "vat", "gross")}
    line = {"tenant": totals.tenant, **sums, "by_rate": rates}
    return (json.dumps(line, ensure_ascii=False) + "\n").encode()


def interval_rows(loaded: MonthFacts, month: Month) -> list[Row]:
    """Give a tenant's leases of a month, in the order of `INTERVAL_COLUMNS`; one that goes on has no end."""
    tenant, end_ms = loaded.facts.tenant, month.end_ms
    rows: list[Row] = []
    for span in loaded.spans:
        over = span.ended_ms is not None and span.ended_ms < end_ms
        ended = instant(span.ended_ms or 0) if over else ""
        reason = (span.end_reason or "") if over else ""
        started = instant(span.started_ms or 0)
        rows.append((tenant, span.lease, span.person, span.tariff or Kind.TEAM, started, ended, reason))
    return rows


def _intervals_csv(month: TenantMonth) -> bytes:
    return _csv(interval_rows(month.loaded, month.opened.month))


def _intervals_jsonl(month: TenantMonth) -> bytes:
    return b"".join(rows_file(INTERVAL_COLUMNS, interval_rows(month.loaded, month.opened.month), "jsonl"))


def _csv(rows: Iterable[Row]) -> bytes:
    return b"".join(map(csv_line, rows))


def _evidence(month: TenantMonth) -> bytes:
    rows = [list(charge_row(charge)) for charge in month.rated.charges]
    hashes = [[link.partition, link.pos, link.hash] for link in month.links]
    history = month.history
    return b"".join(verify_bundle.evidence(rows, list(history.history), history.kinds, hashes))


def _chain(month: TenantMonth) -> bytes:
    return b"".join(verify_bundle.canonical(link._asdict()) for link in month.links)


@dataclass(frozen=True, slots=True)
class MonthFile:
    """One file of a month; `made` gives a tenant's lines of it, `head` stands before them all."""

    name: str
    made: Callable[[TenantMonth], bytes]
    head: bytes = b""


FILES: Final = (
    MonthFile("charges.csv", _charges_csv, csv_line(CHARGE_COLUMNS)),
    MonthFile("charges.jsonl", _charges_jsonl),
    MonthFile("usage.csv", _usage_csv, csv_line(USAGE_COLUMNS)),
    MonthFile("usage.jsonl", _usage_jsonl),
    MonthFile("totals.jsonl", _totals),
    MonthFile("intervals.csv", _intervals_csv, csv_line(INTERVAL_COLUMNS)),
    MonthFile("intervals.jsonl", _intervals_jsonl),
    MonthFile("corrections.csv", lambda month: _csv(month.corrections.rows), csv_line(CORRECTION_COLUMNS)),
    MonthFile("late.jsonl", lambda month: b"".join(month.corrections.history)),
    MonthFile("history.jsonl", lambda month: b"".join(month.history.history)),
    MonthFile("unpriced.jsonl", lambda month: b"".join(month.history.unpriced)),
    MonthFile("evidence.jsonl", _evidence),
    MonthFile("chain.jsonl", _chain),
)
TENANTS: Final = "tenants.jsonl"
"""The digests of each tenant's own files: the leaves of the tree whose root is signed."""
PRICES, VERIFY = verify_bundle.COMMON
HEADS: Final = {each.name: each.head for each in FILES}
NAMES: Final = (*HEADS, TENANTS, PRICES, VERIFY)


def own_files(contents: dict[str, bytes]) -> dict[str, dict[str, object]]:
    """Digest a tenant's own files, given its lines of each."""
    digests: dict[str, dict[str, object]] = {}
    for name, head in HEADS.items():
        whole = head + contents[name]
        digests[name] = {"bytes": len(whole), "sha256": verify_bundle.sha256(whole)}
    return digests
