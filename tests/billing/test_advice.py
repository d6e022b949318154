"""Advice, suppositions, forecasts and explanations: against slow second reckonings of the same history."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seatd.billing.advice import NUMBERS_MAX, advise
from seatd.billing.demand import demand, peak_witnesses, refused, worth_asking
from seatd.billing.explanation import explain
from seatd.billing.facts import Lease, TariffSpan, TenantFacts
from seatd.billing.history import History
from seatd.billing.historyfile import read_history
from seatd.billing.instants import parse_instant
from seatd.billing.months import Month
from seatd.billing.rating import net_of, project, rate
from seatd.billing.report import usage
from seatd.billing.supposition import on_agent, on_team, with_booked
from seatd.catalogue.pricelist_toml import parse_price_list
from seatd.model import Tariff
from tests.billing.histories import PERIODS, ZONES, histories, jsonl, price_lists, toml

SLOW = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
EXAMPLES = Path(__file__).parent / "examples"
PRICES = parse_price_list((EXAMPLES / "prices.toml").read_text())
MARCH, APRIL = Month.parse("2026-03", PRICES.timezone), Month.parse("2026-04", PRICES.timezone)
HOUR = 3_600_000


def example(tenant):
    history = History()
    for _, event in read_history((EXAMPLES / "march.jsonl").read_bytes().splitlines(), "march.jsonl"):
        history.add(event)
    return history.facts(tenant)


@st.composite
def leases(draw):
    """Few instants, so that ends and starts meet, in and around March."""
    hours = st.integers(-3, 6).map(lambda hour: MARCH.start_ms + hour * HOUR)
    found = []
    for number in range(draw(st.integers(0, 12))):
        start, end = sorted((draw(hours), draw(hours)))
        if start < end:
            found.append(Lease(start, end, f"u{number % 5}", draw(st.integers(0, 5)) == 0))
    return tuple(found)


def slowly_refused(found, seats):
    """Ask at every login who of those that were let in sits there still."""
    inside: list[Lease] = []
    turned_away = 0
    for lease in sorted(each for each in found if not each.service and each.end_ms > MARCH.start_ms):
        if sum(each.end_ms > lease.start_ms for each in inside) < seats:
            inside.append(lease)
        else:
            turned_away += 1
    return turned_away


@given(leases(), st.integers(0, 6))
@SLOW
def test_a_smaller_number_refuses_whom_a_slow_count_refuses(found, seats):
    facts = TenantFacts("acme", leases=found)
    assert refused(facts, MARCH, seats) == slowly_refused(found, seats)
    wanted = demand(facts, MARCH)
    assert refused(facts, MARCH, wanted.peak) == 0
    assert wanted.logins == sum(not each.service and each.end_ms > MARCH.start_ms for each in found)


@given(leases())
@SLOW
def test_the_witnesses_of_the_peak_are_as_many_as_the_peak(found):
    facts = TenantFacts("acme", tariffs=(TariffSpan(0, Tariff.TEAM, trial=False),), leases=found)
    at_ms, sat = peak_witnesses(facts, MARCH)
    report = usage(facts, MARCH)
    assert report is not None
    assert (len(sat), at_ms) == (report.used_peak, report.used_peak_at_ms)


@given(leases(), st.integers(1, 30))
@SLOW
def test_the_numbers_that_are_played_fall_from_the_peak(found, most):
    wanted = demand(TenantFacts("acme", leases=found), MARCH)
    numbers = worth_asking(wanted, most)
    assert list(numbers) == sorted(set(numbers), reverse=True)
    assert len(numbers) <= most
    assert all(1 <= n <= wanted.peak for n in numbers)
    assert not numbers or numbers[0] == wanted.peak


def test_a_month_under_either_tariff():
    """Thirty users sit at once, and forty in all: Team takes the peak, Agent every name."""
    start = MARCH.start_ms + 9 * HOUR
    early = tuple(Lease(start, start + 4 * HOUR, f"early{n}", service=False) for n in range(30))
    late = tuple(Lease(start + 4 * HOUR, start + 8 * HOUR, f"late{n}", service=False) for n in range(10))
    facts = TenantFacts(
        "acme",
        tariffs=(TariffSpan(0, Tariff.TEAM, trial=False),),
        bookings={"team": ((0, 50),)},
        leases=early + late,
    )
    found = advise(facts, PRICES, MARCH, MARCH.end_ms)
    team, agent = PRICES.products["team"], PRICES.products["agent"]
    assert found.as_it_is == net_of(team, Fraction(50))
    assert found.team == net_of(team, Fraction(30))
    assert found.agent == net_of(agent, Fraction(40))
    assert (found.users, found.demand.peak, found.demand.logins) == (40, 30, 40)
    assert found.break_even_users is not None
    assert net_of(agent, Fraction(found.break_even_users)) > found.team
    assert net_of(agent, Fraction(found.break_even_users - 1)) <= found.team
    assert [(each.seats, each.refused) for each in found.numbers][:3] == [(30, 0), (28, 2), (26, 4)]
    assert len(found.numbers) <= NUMBERS_MAX


def test_a_tenant_without_anything_gets_empty_advice():
    found = advise(TenantFacts("nobody"), PRICES, MARCH, MARCH.end_ms)
    assert (found.charged, found.as_it_is, found.team, found.agent) == (False, *[Decimal("0.00")] * 3)
    assert (found.numbers, found.break_even_users) == ((), None)


@given(st.data())
@SLOW
def test_supposing_what_was_changes_nothing_and_a_forecast_at_the_end_is_the_bill(data):
    zone, period = data.draw(st.sampled_from(ZONES)), data.draw(st.sampled_from(PERIODS))
    lines, prices = data.draw(histories(period, zone)), parse_price_list(toml(data.draw(price_lists(zone))))
    history, month = History(), Month.parse(period, prices.timezone)
    for _, event in read_history(jsonl(lines), "h"):
        history.add(event)
    for facts in history.all_facts():
        bill = rate(facts, prices, month)
        so_far = facts.until(month.end_ms)
        assert project(facts, prices, month, month.end_ms) == rate(so_far, prices, month)
        assert explain(bill, bill, prices) == ()
        both = [
            {each.product: each for each in rate(supposed, prices, month)}
            for supposed in (on_team(facts, 3), on_agent(facts, month))
        ]
        assert not both[0].get("agent")
        assert not both[1].get("team")
        rest = [{p: c.net for p, c in one.items() if p not in ("team", "agent")} for one in both]
        assert rest[0] == rest[1]
        differences = explain(bill, rate(with_booked(facts, "team", 7), prices, month), prices)
        assert {each.product for each in differences} <= {"team"}


@given(st.data())
@SLOW
def test_the_differences_add_up_to_the_difference(data):
    zone = data.draw(st.sampled_from(ZONES))
    prices = parse_price_list(toml(data.draw(price_lists(zone))))
    bills = []
    for period in ("2026-02", "2026-03"):
        history = History()
        for _, event in read_history(jsonl(data.draw(histories(period, zone))), "h"):
            history.add(event)
        bills.append(rate(history.facts("acme"), prices, Month.parse(period, zone)))
    differences = explain(bills[0], bills[1], prices)
    whole = sum(each.net for each in bills[1]) - sum(each.net for each in bills[0])
    assert sum(each.difference for each in differences) == whole
    assert all(each.sentence.endswith(".") for each in differences)


def test_an_open_month_is_forecast_at_the_pace_so_far():
    """Half of April is over: hours double, the seats that are decided for the 20th come."""
    half = (APRIL.start_ms + APRIL.end_ms) // 2
    on_20th = parse_instant("2026-04-20T00:00:00+02:00")
    prices = parse_price_list(
        (EXAMPLES / "prices.toml").read_text()
        + '\n[products.hours]\nname = "Hours"\nscope = "tenant"\nmetric = "seat_hours"\nunit_price = "0.10"\n'
    )
    facts = TenantFacts(
        "acme",
        tariffs=(TariffSpan(0, Tariff.TEAM, trial=False),),
        bookings={"team": ((0, 10), (on_20th, 12))},
        leases=(Lease(APRIL.start_ms, APRIL.start_ms + 10 * HOUR, "ana", service=False),),
    )
    quantities = {each.product: each.quantity for each in project(facts, prices, APRIL, half)}
    assert quantities == {"team": 12, "hours": 20}
    now = {each.product: each.quantity for each in rate(facts, prices, APRIL, half)}
    assert now == {"team": 10, "hours": 10}


def test_a_difference_is_said_in_a_sentence():
    said = {
        tenant: [
            (str(each.difference), each.sentence)
            for each in explain(rate(facts, PRICES, MARCH), rate(facts, PRICES, APRIL), PRICES)
        ]
        for tenant in ("acme", "cedar")
        for facts in [example(tenant)]
    }
    assert said == {
        "acme": [
            ("-152.00", "OCR pages is gone: last month it was 13000 delivered."),
            ("9.50", "Social media add-on: 3 named in place of 2."),
            ("-780.00", "Team: 40 booked at the most in place of 60."),
        ],
        "cedar": [
            ("46.67", "Agent: charged for all days in place of 11/21 of the days."),
            ("-92.86", "Team is gone: last month it was 5 booked at the most, for 10/21 of the days."),
        ],
    }
