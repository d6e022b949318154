"""Where months begin and how many days they have, over all zones and their odd nights."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatd.billing.months import Month, first_day

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
DAY_MS = 86_400_000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

zones = st.sampled_from(ZONES) | st.sampled_from(
    ["Europe/Berlin", "America/Sao_Paulo", "America/St_Johns", "Asia/Beirut", "Pacific/Apia", "Africa/Cairo"]
)
periods = st.builds("{:04}-{:02}".format, st.integers(1975, 2045), st.integers(1, 12))


def local(at_ms, zone):
    return (EPOCH + dt.timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone))


def following(period):
    return f"{first_day(period) + dt.timedelta(days=32):%Y-%m}"


def ms(text):
    return (dt.datetime.fromisoformat(text) - EPOCH) // dt.timedelta(milliseconds=1)


@given(periods, zones)
@settings(deadline=None)
def test_a_month_begins_at_the_first_instant_of_its_first_day(period, zone):
    month, first = Month.parse(period, zone), first_day(period)
    assert local(month.start_ms, zone).date() >= first
    # Nothing before it, minute by minute for two days, is so late.
    for minute in range(1, 2 * 24 * 60):
        assert local(month.start_ms - minute * 60_000, zone).date() < first
    assert local(month.start_ms - 1, zone).date() < first


@given(periods, zones)
@settings(deadline=None)
def test_months_follow_each_other_without_gap(period, zone):
    assert Month.parse(period, zone).end_ms == Month.parse(following(period), zone).start_ms


@given(periods, zones)
@settings(deadline=None, max_examples=50)
def test_spans_tile_the_month_and_tell_local_time(period, zone):
    month = Month.parse(period, zone)
    edges = [edge for start, end, _ in month.spans for edge in (start, end)]
    assert edges[0] == month.start_ms
    assert edges[-1] == month.end_ms
    assert edges[1:-1:2] == edges[2::2]
    offsets = [offset for _, _, offset in month.spans]
    assert all(before != after for before, after in pairwise(offsets))
    for start, end, offset in month.spans:
        for at in range(start, end, 3 * 3_600_000):
            assert local(at, zone).utcoffset() == dt.timedelta(milliseconds=offset)


@given(periods, zones, st.data())
@settings(deadline=None, max_examples=60)
def test_days_are_the_local_dates_of_the_instants(period, zone, data):
    month = Month.parse(period, zone)
    inside = st.integers(month.start_ms, month.end_ms)
    start, end = sorted((data.draw(inside), data.draw(inside)))
    dates = {local(at, zone).date() for at in range(start, end, 60_000)}
    if start < end:
        dates.add(local(end - 1, zone).date())
    assert month.days(((start, end),)) == len(dates)


@pytest.mark.parametrize(
    ("period", "zone", "start", "end"),
    [
        ("2026-03", "Europe/Berlin", "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"),
        ("2009-11", "America/St_Johns", "2009-11-01T00:00:00-02:30", "2009-12-01T00:00:00-03:30"),
        ("2011-12", "Pacific/Apia", "2011-12-01T00:00:00-10:00", "2012-01-01T00:00:00+14:00"),
        ("2018-11", "America/Sao_Paulo", "2018-11-01T00:00:00-03:00", "2018-12-01T00:00:00-02:00"),
        ("2022-10", "Asia/Damascus", "2022-10-01T00:00:00+03:00", "2022-11-01T00:00:00+03:00"),
        ("2017-04", "Asia/Beirut", "2017-04-01T00:00:00+03:00", "2017-05-01T00:00:00+03:00"),
        ("2012-04", "Asia/Damascus", "2012-04-01T00:00:00+03:00", "2012-05-01T00:00:00+03:00"),
        # Midnight of the first is skipped: the month begins at one.
        ("2005-04", "Asia/Damascus", "2005-04-01T01:00:00+03:00", "2005-05-01T00:00:00+03:00"),
    ],
)
def test_known_months(period, zone, start, end):
    month = Month.parse(period, zone)
    assert (month.start_ms, month.end_ms) == (ms(start), ms(end))


@pytest.mark.parametrize(("period", "hours"), [("2026-03", 743), ("2026-10", 745), ("2026-06", 720)])
def test_hours_in_berlin(period, hours):
    assert Month.parse(period, "Europe/Berlin").length_ms == hours * 3_600_000


def test_a_day_that_the_zone_dropped_is_no_day():
    month = Month.parse("2011-12", "Pacific/Apia")
    assert month.days(((month.start_ms, month.end_ms),)) == 30


def test_instants_are_cut_to_seconds():
    month = Month.parse("2026-03", "Europe/Berlin")
    assert month.rfc3339(month.end_ms - 1) == "2026-03-31T23:59:59+02:00"
    assert month.rfc3339(month.start_ms + 999) == "2026-03-01T00:00:00+01:00"
    assert Month.parse("2026-03", "UTC").rfc3339(month.start_ms) == "2026-02-28T23:00:00+00:00"


@pytest.mark.parametrize(
    "period", ["2026-3", "2026-13", "2026-00", "26-03", "2026-03-01", "", "2026-03\n", "٢٠٢٦-٠٣"]
)
def test_what_is_no_month(period):
    with pytest.raises(ValueError, match="month"):
        Month.parse(period, "UTC")


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc/passwd", "Europe", "/etc/localtime"])
def test_what_is_no_zone(zone):
    with pytest.raises(ValueError, match="time zone"):
        Month.parse("2026-03", zone)
