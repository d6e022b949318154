"""One tenant's facts of a month, from SQL: what the account plane says, and the ledger's leases.

Decides which rows are of the month: settings since ever (they hold until something else is said), leases that
overlap it, denials and deliveries within it.  Users are person ids.  Nothing is priced here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import facts as account
from seatd.accounts.facts import BindingFact, BookingFact, Fact, TariffFact
from seatd.billing.events import Booked, Bound, Denied, Event, Metered, SeatEnded, SeatStarted, TariffSet
from seatd.billing.facts import Lease, TenantFacts
from seatd.billing.history import History
from seatd.billing.months import Month
from seatd.model import Kind
from seatd.usage import ledger
from seatd.usage.intervals import FOREVER_MS
from seatd.usage.ledger import DenialRecord, LeaseSpan


@dataclass(frozen=True, slots=True)
class MonthFacts:
    """A tenant's facts, and what they were made of, in the order in which a history tells it.

    `unstarted` counts leases left out because their start was lost.
    """

    facts: TenantFacts
    unstarted: int
    settings: tuple[Event, ...] = ()
    spans: tuple[LeaseSpan, ...] = ()
    denials: tuple[DenialRecord, ...] = ()


async def load(connection: AsyncConnection, tenant: str, month: Month) -> MonthFacts:
    """Load what is known of a tenant's month."""
    (loaded,) = await load_all(connection, [tenant], month)
    return loaded


async def load_all(connection: AsyncConnection, tenants: Sequence[str], month: Month) -> list[MonthFacts]:
    """Load what is known of the month of each of some tenants, a question a kind of fact for all of them together."""
    settings = await account.facts(connection, tenants, month.end_ms)
    spans = await ledger.spans_of(connection, tenants, month.start_ms, month.end_ms)
    denials = await ledger.denials_of(connection, tenants, month.start_ms, month.end_ms)
    return [_loaded(each, month, settings[each], spans[each], denials[each]) for each in tenants]


def _loaded(
    tenant: str, month: Month, told: list[Fact], spans: list[LeaseSpan], denials: list[DenialRecord]
) -> MonthFacts:
    settings = [
        _event(fact)
        for fact in told
        if not isinstance(fact, account.MeteredFact) or fact.at_ms >= month.start_ms
    ]
    # A lease that ends as it starts never was.
    kept = [each for each in spans if each.started_ms is not None and each.started_ms < _end_ms(each)]
    facts = replace(
        History(settings).facts(tenant),
        leases=tuple(
            Lease(each.started_ms, _end_ms(each), each.person, each.tariff == Kind.SERVICE)
            for each in kept
            if each.started_ms is not None
        ),
        denials=tuple(denial.at_ms for denial in denials),
    )
    unstarted = sum(each.started_ms is None for each in spans)
    return MonthFacts(facts, unstarted, tuple(settings), tuple(kept), tuple(denials))


def _end_ms(span: LeaseSpan) -> int:
    return FOREVER_MS if span.ended_ms is None else span.ended_ms


def told_events(loaded: MonthFacts, month: Month) -> Iterator[Event]:
    """Give a tenant's month as events, leases in the order of the chain; what goes on beyond the month is open."""
    tenant = loaded.facts.tenant
    yield from loaded.settings
    for span in loaded.spans:
        if span.started_ms is not None:
            yield SeatStarted(span.started_ms, tenant, span.lease, span.person, span.tariff)
        if span.ended_ms is not None and span.ended_ms < month.end_ms:
            yield SeatEnded(span.ended_ms, tenant, span.lease)
    for denial in loaded.denials:
        yield Denied(denial.at_ms, tenant, denial.person, denial.reason)


def _event(fact: Fact) -> Event:
    if isinstance(fact, TariffFact):
        return TariffSet(fact.at_ms, fact.tenant, fact.tariff, fact.trial)
    if isinstance(fact, BookingFact):
        return Booked(fact.at_ms, fact.tenant, fact.product, fact.quantity)
    if isinstance(fact, BindingFact):
        return Bound(fact.at_ms, fact.tenant, fact.product, fact.person, fact.event == "bound")
    return Metered(fact.at_ms, fact.tenant, fact.product, Decimal(fact.quantity), fact.id)
