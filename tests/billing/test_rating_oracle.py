"""Charges and usage against the oracle, over random histories, price lists, zones and months."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seatd.billing.export import charges_file, usage_file
from seatd.billing.history import History
from seatd.billing.historyfile import read_history
from seatd.billing.months import Month
from seatd.billing.rating import rate
from seatd.billing.report import usage
from seatd.catalogue.pricelist_toml import parse_price_list
from tests.billing import oracle
from tests.billing.histories import PERIODS, ZONES, histories, instants, jsonl, price_lists, toml

SLOW = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@st.composite
def cases(draw):
    zone, period = draw(st.sampled_from(ZONES)), draw(st.sampled_from(PERIODS))
    return draw(histories(period, zone)), draw(price_lists(zone)), period


def gathered(*files):
    history = History()
    for number, lines in enumerate(files):
        for place, event in read_history(lines, f"h{number}"):
            history.add(event, place)
    history.check()
    return history


def charges_csv(history, prices, period, now=None):
    price_list = parse_price_list(toml(prices))
    month = Month.parse(period, price_list.timezone)
    lines = (charge for facts in history.all_facts() for charge in rate(facts, price_list, month, now))
    return b"".join(charges_file(lines, "csv")).decode()


def usage_csv(history, prices, period):
    month = Month.parse(period, prices["timezone"])
    lines = (line for facts in history.all_facts() if (line := usage(facts, month)))
    return b"".join(usage_file(lines, "csv")).decode()


@given(cases())
@SLOW
def test_charges_are_the_oracles(case):
    lines, prices, period = case
    assert charges_csv(gathered(jsonl(lines)), prices, period) == oracle.charges_csv(lines, prices, period)


@given(cases())
@SLOW
def test_usage_is_the_oracles(case):
    lines, prices, period = case
    assert usage_csv(gathered(jsonl(lines)), prices, period) == oracle.usage_csv(lines, prices, period)


def settled(lines):
    """Drop all but the last of the settings of one thing at one instant: their order does matter."""
    kept = {}
    for number, line in enumerate(lines):
        event = "bound" if line["event"] == "unbound" else line["event"]
        thing = tuple(line.get(key) for key in ("tenant", "product", "user", "lease", "id"))
        kept[event, oracle.ms(line["at"]), thing] = (number, line)
    return [line for _, line in sorted(kept.values(), key=lambda each: each[0])]


@given(cases(), st.data())
@SLOW
def test_order_of_lines_splitting_and_replaying_change_nothing(case, data):
    lines, prices, period = case
    lines = settled(lines)
    shuffled = jsonl(data.draw(st.permutations(lines)))
    cut = data.draw(st.integers(0, len(lines)))
    plain, mixed = gathered(jsonl(lines)), gathered(shuffled[cut:], shuffled[:cut], shuffled[cut:])
    assert charges_csv(mixed, prices, period) == charges_csv(plain, prices, period)
    assert usage_csv(mixed, prices, period) == usage_csv(plain, prices, period)


@given(cases())
@SLOW
def test_a_file_replayed_as_it_is_changes_nothing(case):
    lines, prices, period = case
    once, twice = gathered(jsonl(lines)), gathered(jsonl(lines), jsonl(lines))
    assert charges_csv(twice, prices, period) == charges_csv(once, prices, period)
    assert usage_csv(twice, prices, period) == usage_csv(once, prices, period)


@given(cases(), st.data())
@SLOW
def test_an_open_month_is_rated_as_if_nothing_changed_after_now(case, data):
    lines, prices, period = case
    now = data.draw(instants(period, prices["timezone"]))
    known = [line for line in lines if oracle.ms(line["at"]) <= now]
    ended = {(line["tenant"], line["lease"]) for line in known if line["event"] == "seat_ended"}
    stopped = known + [
        {
            "at": oracle.print_instant_ms(now),
            "tenant": line["tenant"],
            "event": "seat_ended",
            "lease": line["lease"],
        }
        for line in known
        if line["event"] == "seat_started" and (line["tenant"], line["lease"]) not in ended
    ]
    # Hours stop now; all else goes on to the end of the month.
    expected = sorted(
        [row for row in oracle.charges_csv(known, prices, period).splitlines() if ",seat_hours," not in row]
        + [row for row in oracle.charges_csv(stopped, prices, period).splitlines() if ",seat_hours," in row]
    )
    assert sorted(charges_csv(gathered(jsonl(lines)), prices, period, now).splitlines()) == expected
