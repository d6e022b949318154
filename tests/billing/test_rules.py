"""The corners of the contract one by one, written out, on facts made straight from events."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatd.billing.amounts import exact_sum, plain, round_half_up
from seatd.billing.events import Booked, Bound, Denied, Metered, SeatEnded, SeatStarted, TariffSet
from seatd.billing.export import charge_row, charges_file
from seatd.billing.history import History, HistoryError
from seatd.billing.instants import parse_instant
from seatd.billing.months import Month
from seatd.billing.rating import rate
from seatd.billing.report import usage
from seatd.billing.totals import totals
from seatd.catalogue.pricelist_toml import parse_price_list
from seatd.model import Tariff

MONTH = Month.parse("2026-06", "Europe/Berlin")
HEAD = 'version="v"\nvalid_from=2026-01-01\ncurrency="EUR"\ntimezone="Europe/Berlin"\nvat={standard="19",low="7"}\n'


def at(text):
    return parse_instant(f"{text}+02:00")


JUNE, JULY = at("2026-06-01T00:00:00"), at("2026-07-01T00:00:00")
TEAM = TariffSet(JUNE, "acme", Tariff.TEAM)


def prices(**products):
    tables = [f'[products.{name}]\nname="x"\n{body}\n' for name, body in products.items()]
    return parse_price_list(HEAD + "".join(tables))


def usage_of(events):
    """Return the usage line, which there is to be."""
    line = usage(History(events).facts("acme"), MONTH)
    assert line is not None
    return line


def lines(events, until_ms=None, **products):
    facts = History(events).facts("acme")
    return rate(facts, prices(**products), MONTH, until_ms)


def quantities(events, until_ms=None, **products):
    return [
        (each.product, plain(each.quantity), str(each.weight)) for each in lines(events, until_ms, **products)
    ]


BOOKED = 'metric="booked_peak"\nunit_price="10"'
NAMED = 'metric="distinct_named"\nunit_price="10"'
METERED = 'metric="metered"\nunit_price="1"'
HOURS = 'metric="seat_hours"\nunit_price="1"'


def test_a_late_start_that_stays_pays_the_whole_month():
    begun = [TariffSet(at("2026-06-10T12:00:00"), "acme", Tariff.TEAM), Booked(JUNE, "acme", "team", 5)]
    (charge,) = lines(begun, team=BOOKED)
    assert (charge.weight, charge.net) == (1, Decimal("50.00"))
    assert charge.from_ms == at("2026-06-10T12:00:00")


def test_the_day_of_a_switch_counts_for_both():
    switched = [TEAM, TariffSet(at("2026-06-11T12:00:00"), "acme", Tariff.AGENT)]
    booked = [Booked(JUNE, "acme", "team", 1), Bound(JUNE, "acme", "agent", "ana")]
    found = quantities(switched + booked, team=BOOKED, agent=NAMED)
    assert found == [("agent", "1", "2/3"), ("team", "1", "11/30")]


def test_a_switch_at_midnight_splits_cleanly():
    switched = [TEAM, TariffSet(at("2026-06-11T00:00:00"), "acme", Tariff.AGENT)]
    booked = [Booked(JUNE, "acme", "team", 1), Bound(JUNE, "acme", "agent", "ana")]
    found = quantities(switched + booked, team=BOOKED, agent=NAMED)
    assert found == [("agent", "1", "2/3"), ("team", "1", "1/3")]


def test_a_trial_is_free_and_weighs_nothing():
    events = [
        TariffSet(JUNE, "acme", Tariff.TEAM, trial=True),
        TariffSet(at("2026-06-16T00:00:00"), "acme", Tariff.TEAM),
        TariffSet(at("2026-06-21T00:00:00"), "acme", None),
        Booked(JUNE, "acme", "team", 9),
        Booked(at("2026-06-16T00:00:00"), "acme", "team", 2),
        Booked(at("2026-06-25T00:00:00"), "acme", "team", 7),
    ]
    (charge,) = lines(events, team=BOOKED)
    assert (plain(charge.quantity), charge.weight) == ("2", 1)
    assert (charge.from_ms, charge.to_ms) == (at("2026-06-16T00:00:00"), at("2026-06-21T00:00:00"))


def test_a_tariff_said_again_changes_nothing():
    again = [TariffSet(at(f"2026-06-{day}T07:00:00"), "acme", Tariff.TEAM) for day in (10, 20)]
    booked = [Booked(JUNE, "acme", "team", 3)]
    assert lines([TEAM, *again, *booked], team=BOOKED) == lines([TEAM, *booked], team=BOOKED)


def test_the_other_tariffs_bookings_stand_in_advance_for_nothing():
    advance = [TEAM, Bound(JUNE, "acme", "agent", "ana"), Booked(JUNE, "acme", "team", 1)]
    assert quantities(advance, team=BOOKED, agent=NAMED) == [("team", "1", "1")]


@pytest.mark.parametrize(
    ("charged", "weight", "begin"),
    [("charged_time", "1", "2026-06-16T00:00:00"), ("always", "1/2", "2026-06-01T00:00:00")],
)
def test_a_tariffs_product_charged_always_keeps_to_its_tariff(charged, weight, begin):
    events = [TariffSet(at("2026-06-16T00:00:00"), "acme", Tariff.TEAM), Booked(JUNE, "acme", "team", 1)]
    (charge,) = lines(events, team=f'{BOOKED}\ncharged="{charged}"')
    assert (str(charge.weight), charge.from_ms) == (weight, at(begin))


def test_charged_always_needs_no_tariff():
    delivered = [Metered(at("2026-06-05T09:00:00"), "acme", "help", Decimal("2.50"), "T-1")]
    (charge,) = lines(delivered, help=f'{METERED}\ncharged="always"')
    assert (plain(charge.quantity), charge.from_ms, charge.to_ms) == ("2.5", JUNE, JULY)
    assert lines(delivered, help=METERED) == []


@pytest.mark.parametrize(("instant", "counts"), [(JUNE - 1, 0), (JUNE, 1), (JULY - 1, 1), (JULY, 0)])
def test_the_month_is_half_open(instant, counts):
    events = [TariffSet(JUNE - 1, "acme", Tariff.TEAM), Metered(instant, "acme", "pages", Decimal(1), "m")]
    assert len(lines(events, pages=METERED)) == counts
    line = usage_of([TEAM, Denied(instant, "acme", "bo", "no_seat")])
    assert line.denied == counts


def test_of_two_settings_at_one_instant_the_later_wins_and_the_first_never_was():
    events = [TEAM, Booked(JUNE, "acme", "team", 60), Booked(JUNE, "acme", "team", 40)]
    assert quantities(events, team=BOOKED) == [("team", "40", "1")]
    blink = [TEAM, Bound(JUNE, "acme", "agent", "bo"), Bound(JUNE, "acme", "agent", "bo", bound=False)]
    assert quantities(blink, agent=NAMED) == []
    assert quantities(blink, social=NAMED) == []


def test_of_two_tariffs_at_one_instant_the_later_wins():
    events = [TEAM, TariffSet(JUNE, "acme", Tariff.AGENT), Booked(JUNE, "acme", "team", 1)]
    assert quantities([*events, Bound(JUNE, "acme", "agent", "ana")], team=BOOKED, agent=NAMED) == [
        ("agent", "1", "1")
    ]


@pytest.mark.parametrize(
    ("metric", "quantity", "weight"),
    [
        ("booked_peak", "4", "1/3"),
        ("used_peak", "1", "1/3"),
        ("distinct_named", "1", "1/3"),
        ("booked_average", "1.3333", "1"),
        ("named_average", "0.3333", "1"),
        ("seat_hours", "240", "1"),
        ("flat", "1", "1"),
        ("metered", "2", "1"),
    ],
)
def test_only_peaks_and_names_are_weighted_and_averages_are_over_the_whole_month(metric, quantity, weight):
    switch = at("2026-06-11T00:00:00")
    events = [
        TEAM,
        TariffSet(switch, "acme", Tariff.AGENT),
        Booked(JUNE, "acme", "team", 4),
        Bound(JUNE, "acme", "team", "ana"),
        SeatStarted(JUNE, "acme", "a", "ana"),
        Metered(switch - 1, "acme", "team", Decimal(2), "in time"),
        Metered(switch, "acme", "team", Decimal(1), "too late"),
    ]
    body = f'metric="{metric}"\nunit_price="10"'
    assert quantities(events, team=body) == [("team", quantity, weight)]


def test_ends_come_before_starts():
    noon = at("2026-06-10T12:00:00")
    events = [
        TEAM,
        SeatStarted(noon, "acme", "b", "bo"),
        SeatStarted(JUNE, "acme", "a", "ana"),
        SeatEnded(noon, "acme", "a"),
        SeatStarted(noon, "acme", "z", "zoe"),
        SeatEnded(noon, "acme", "z"),
    ]
    assert quantities(events, team='metric="used_peak"\nunit_price="1"') == [("team", "1", "1")]
    line = usage_of(events)
    assert (line.used_peak, line.distinct_users, plain(line.seat_hours)) == (1, 2, "720")


def test_service_users_stand_aside():
    events = [SeatStarted(JUNE, "acme", "s", "vendor", tariff="service")]
    line = usage_of(events)
    assert (line.used_peak, line.used_peak_at_ms, line.distinct_users, line.p95) == (0, None, 0, 0)
    assert quantities([TEAM, *events], team='metric="used_peak"\nunit_price="1"') == []


def test_full_minutes_are_full_before_the_first_booking():
    ten = at("2026-06-01T00:10:00")
    events = [TEAM, Booked(ten, "acme", "team", 1), SeatStarted(ten + 60_000, "acme", "a", "ana")]
    events += [SeatEnded(ten + 150_000, "acme", "a")]
    line = usage_of(events)
    assert plain(line.full_minutes) == "11.5"


@pytest.mark.parametrize(("days", "p95"), [("27T12:00:00", 1), ("29T12:00:00", 0), ("29T11:59:59", 1)])
def test_p95_is_the_least_that_holds_for_95_percent(days, p95):
    # A twentieth of June is a day and a half.
    events = [TEAM, SeatStarted(at(f"2026-06-{days}"), "acme", "a", "ana")]
    line = usage_of(events)
    assert line.p95 == p95


def test_nobody_there_gives_no_usage_line():
    assert usage(History([Booked(JUNE, "acme", "team", 1)]).facts("acme"), MONTH) is None
    gone = [TariffSet(JUNE - 9, "acme", Tariff.TEAM), TariffSet(JUNE, "acme", None)]
    assert usage(History(gone).facts("acme"), MONTH) is None


def test_graduated_and_volume_tiers():
    tiers = 'metric="metered"\ntiers=[{up_to="1000",unit_price="0.02"},{up_to="10000",unit_price="0.012"},{unit_price="0.008"}]\n'
    delivered = [TEAM, Metered(JUNE, "acme", "pages", Decimal(10000), "m")]
    graduated = lines(delivered, pages=tiers + 'tiering="graduated"')
    assert [(c.tier, plain(c.quantity), str(c.net)) for c in graduated] == [
        (0, "1000", "20.00"),
        (1, "9000", "108.00"),
    ]
    volume = lines(delivered, pages=tiers + 'tiering="volume"')
    assert [(c.tier, plain(c.quantity), str(c.net)) for c in volume] == [(1, "10000", "120.00")]


def test_tiers_see_the_unweighted_quantity():
    switched = [
        TEAM,
        TariffSet(at("2026-06-16T00:00:00"), "acme", Tariff.AGENT),
        Booked(JUNE, "acme", "team", 10),
    ]
    body = 'tiering="graduated"\ntiers=[{up_to="8",unit_price="10"},{unit_price="1"}]'
    (first, second) = lines(switched, team=body)
    assert (plain(first.quantity), plain(second.quantity)) == ("8", "2")
    assert (first.net, second.net) == (Decimal("40.00"), Decimal("1.00"))


def test_rounding_is_away_from_zero_and_zero_has_no_sign():
    delivered = [TEAM, Metered(JUNE, "acme", "pages", Decimal(1), "m")]
    nets = {
        price: charge_row(lines(delivered, pages=f'metric="metered"\nunit_price="{price}"')[0])[9]
        for price in ("0.005", "-0.005", "-0.004", "0.004", "0", "1.0049999")
    }
    assert nets == {
        "0.005": "0.01",
        "-0.005": "-0.01",
        "-0.004": "0.00",
        "0.004": "0.00",
        "0": "0.00",
        "1.0049999": "1.00",
    }


def test_vat_is_reckoned_once_a_rate_on_the_sum():
    delivered = [Metered(JUNE, "acme", name, Decimal(1), "m") for name in ("a", "b", "c")]
    body = 'metric="metered"\ncharged="always"\nunit_price="0.13"'
    (total,) = totals(lines(delivered, a=body, b=body, c=f'{body}\nvat="low"'))
    # Line by line it would be 0.02 twice for 19 percent.
    assert [(each.vat_rate.text, str(each.net), str(each.vat)) for each in total.by_rate] == [
        ("7", "0.13", "0.01"),
        ("19", "0.26", "0.05"),
    ]
    assert (str(total.net), str(total.vat), str(total.gross)) == ("0.39", "0.06", "0.45")


def test_hours_of_an_open_month_count_up_to_now():
    now = at("2026-06-02T00:00:00")
    events = [
        TEAM,
        Booked(JUNE, "acme", "team", 2),
        SeatStarted(JUNE, "acme", "a", "ana"),
        SeatEnded(at("2026-06-03T00:00:00"), "acme", "a"),
        Booked(at("2026-06-20T00:00:00"), "acme", "team", 9),
    ]
    average = 'metric="booked_average"\nunit_price="1"'
    assert quantities(events, now, team=average, hours=HOURS) == [("hours", "24", "1"), ("team", "2", "1")]
    assert quantities(events, JUNE - 1, hours=HOURS) == []
    assert (
        quantities(events, JULY + 1, hours=HOURS) == quantities(events, hours=HOURS) == [("hours", "48", "1")]
    )


def test_a_failed_addition_changes_nothing():
    history = History([TEAM, SeatStarted(JUNE, "acme", "a", "ana")])
    before = history.facts("acme")
    for event in (SeatEnded(JUNE - 1, "acme", "a"), SeatStarted(JUNE, "acme", "a", "bo")):
        with pytest.raises(HistoryError):
            history.add(event)
    assert history.facts("acme") == before


def test_an_unknown_tenant_has_no_facts():
    assert usage(History().facts("acme"), MONTH) is None
    assert lines([], team=BOOKED) == []


def test_words_of_the_price_list_cannot_break_a_csv_line():
    text = (HEAD + f'[products.team]\nname="x"\n{BOOKED}\n').replace('"v"', "'a,\"b\"'")
    charges = rate(
        History([TEAM, Booked(JUNE, "acme", "team", 1)]).facts("acme"), parse_price_list(text), MONTH
    )
    assert b"".join(charges_file(charges, "csv")).endswith(b',EUR,"a,""b"""\n')
    assert b"".join(charges_file(charges, "jsonl")).endswith(b'"price_list": "a,\\"b\\""}\n')


fractions = st.fractions(min_value=-1000, max_value=1000)


@given(fractions, st.integers(0, 6))
@settings(deadline=None)
def test_round_half_up(value, places):
    rounded = Fraction(round_half_up(value, places))
    step = Fraction(1, 10**places)
    assert (rounded / step).denominator == 1
    assert abs(rounded - value) <= step / 2
    if abs(rounded - value) == step / 2:
        assert abs(rounded) > abs(value)


@given(
    st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12)
    )
)
@settings(deadline=None)
def test_exact_sum_loses_no_digit(values):
    assert Fraction(exact_sum(values)) == sum(map(Fraction, values), Fraction(0))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("-0.00", "0"),
        ("1E+3", "1000"),
        ("2.500", "2.5"),
        ("100", "100"),
        ("0.000001", "0.000001"),
    ],
)
def test_plain(value, text):
    assert plain(Decimal(value)) == text
