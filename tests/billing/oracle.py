"""A second opinion on a month: slow, plain, and without a line of seatd.

It asks at every instant that could matter what the state is, by reading all lines again, and adds up
fractions.  Lines are dicts as in a history file, in file order; prices are a dict as TOML gives.
"""

import datetime as dt
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

QUARTER = 900_000
CHARGES = "period,tenant,product,metric,from,to,weight,quantity,unit_price,net,vat_rate,currency,price_list"
USAGE = "period,tenant,used_peak,used_peak_at,booked_peak,seat_hours,p95,distinct_users,denied,full_minutes"


def ms(text):
    moment = dt.datetime.fromisoformat(text)
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def local(at, zone):
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=at)).astimezone(ZoneInfo(zone))


def print_instant(at, zone):
    return local(at, zone).replace(microsecond=0).isoformat()


def print_instant_ms(at):
    return local(at, "UTC").isoformat(timespec="milliseconds")


@lru_cache
def first_instant(year, month, zone):
    """Walk minute by minute up to the first whose local date is in the month."""
    at = ms(f"{year:04}-{month:02}-01T00:00:00+00:00") - 16 * 3_600_000
    while (local(at, zone).year, local(at, zone).month) < (year, month):
        at += 60_000
    return at


def bounds(period, zone):
    year, month = int(period[:4]), int(period[5:])
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return first_instant(year, month, zone), first_instant(*following, zone)


@lru_cache
def day_edges(start, end, zone):
    """Return the first mark of a quarter hour of every run of one local date."""
    dates = [(at, local(at, zone).date()) for at in range(start, end, QUARTER)]
    return [start, *(at for (_, before), (at, date) in pairwise(dates) if date != before)]


def half_up(value, places):
    shifted = abs(value) * 10**places + Fraction(1, 2)
    whole = shifted.numerator // shifted.denominator
    return Fraction(whole, 10**places) * (-1 if value < 0 else 1)


def show(value, places=12):
    scaled = abs(value) * 10**places
    assert scaled.denominator == 1
    digits = str(scaled.numerator).rjust(places + 1, "0")
    text = (digits[:-places] + "." + digits[-places:]).rstrip("0").rstrip(".")
    return "-" + text if value < 0 else text


def cents(value):
    sign = "-" if value < 0 else ""
    number = abs(value * 100)
    assert number.denominator == 1
    return f"{sign}{number.numerator // 100}.{number.numerator % 100:02}"


class Tenant:
    """One tenant's lines, and the state at any instant."""

    def __init__(self, name, lines, period, zone):
        self.name, self.period, self.zone = name, period, zone
        self.lines = [{**line, "ms": ms(line["at"])} for line in lines if line["tenant"] == name]
        self.start, self.end = bounds(period, zone)
        marks = {line["ms"] for line in self.lines if self.start <= line["ms"] < self.end}
        marks |= set(day_edges(self.start, self.end, zone))
        self.seen = {}
        # What everything is, between one mark and the next.
        self.slices = [(at, end, self.state(at)) for at, end in pairwise([*sorted(marks), self.end])]
        self.dates = {at: local(at, zone).date() for at in marks}

    def state(self, at):
        key = tuple(line["ms"] <= at for line in self.lines)
        if key not in self.seen:
            self.seen[key] = self._look(at)
        return self.seen[key]

    def _look(self, at):
        tariff, trial, booked, named = None, False, {}, {}
        order = sorted((line["ms"], i) for i, line in enumerate(self.lines) if line["ms"] <= at)
        for _, i in order:
            line = self.lines[i]
            if line["event"] == "tariff":
                tariff, trial = line["tariff"], line.get("trial", False)
            if line["event"] == "booking":
                booked[line["product"]] = line["quantity"]
            if line["event"] in ("bound", "unbound"):
                named[line["product"], line["user"]] = line["event"] == "bound"
        ended = {line["lease"] for line in self.lines if line["event"] == "seat_ended" and line["ms"] <= at}
        started = {
            line["lease"]: (line["user"], line.get("tariff") == "service")
            for line in self.lines
            if line["event"] == "seat_started" and line["ms"] <= at
        }
        return {
            "tariff": tariff,
            "trial": trial,
            "booked": booked,
            "named": {key for key, bound in named.items() if bound},
            "open": {lease: who for lease, who in started.items() if lease not in ended},
        }

    def users(self, state):
        return [user for user, service in state["open"].values() if not service]

    def charges(self, prices):
        for name in sorted(prices["products"]):
            yield from self.charge(name, prices["products"][name], prices)

    def charge(self, name, product, prices):
        always = product.get("charged") == "always"
        tariff = product.get("tariff")
        base = [s for s in self.slices if always or (s[2]["tariff"] and not s[2]["trial"])]
        over = [s for s in base if tariff is None or s[2]["tariff"] == tariff]
        if not over:
            return
        scope = product.get("scope", "named")
        default = {"team": "booked_peak", "agent": "distinct_named"}.get(
            tariff, "flat" if scope == "tenant" else "distinct_named"
        )
        metric = product.get("metric", default)
        quantity = self.quantity(metric, name, over)
        weight = Fraction(1)
        if tariff and metric in ("booked_peak", "used_peak", "distinct_named"):
            weight = Fraction(len({self.dates[s[0]] for s in over}), len({self.dates[s[0]] for s in base}))
        begin, end = (self.start, self.end) if always else (over[0][0], over[-1][1])
        for part, price in self.tiers(product, quantity):
            net = half_up(part * Fraction(price) * weight, 2)
            yield [
                self.period,
                self.name,
                name,
                metric,
                print_instant(begin, self.zone),
                print_instant(end, self.zone),
                str(weight),
                show(part),
                price,
                cents(net),
                prices["vat"][product.get("vat", "standard")],
                prices["currency"],
                prices["version"],
            ]

    def quantity(self, metric, name, over):
        length = self.end - self.start
        booked = [(end - at, state["booked"].get(name, 0)) for at, end, state in over]
        open_now = [(end - at, len(self.users(state))) for at, end, state in over]
        named = [(end - at, {u for p, u in state["named"] if p == name}) for at, end, state in over]
        if metric == "booked_peak":
            return Fraction(max(q for _, q in booked))
        if metric == "used_peak":
            return Fraction(max(n for _, n in open_now))
        if metric == "distinct_named":
            return Fraction(len(set().union(*(users for _, users in named))))
        if metric == "booked_average":
            return half_up(Fraction(sum(t * q for t, q in booked), length), 4)
        if metric == "named_average":
            return half_up(Fraction(sum(t * len(users) for t, users in named), length), 4)
        if metric == "seat_hours":
            return half_up(Fraction(sum(t * n for t, n in open_now), 3_600_000), 4)
        if metric == "flat":
            return Fraction(int(any(q > 0 for _, q in booked)))
        assert metric == "metered"
        readings = {
            line["id"]: Fraction(line["quantity"])
            for line in self.lines
            if line["event"] == "metered"
            and line["product"] == name
            and any(at <= line["ms"] < end for at, end, _ in over)
        }
        return sum(readings.values(), Fraction(0))

    def tiers(self, product, quantity):
        if quantity == 0:
            return
        if "unit_price" in product:
            yield quantity, product["unit_price"]
            return
        tiers = [(Fraction(t["up_to"]) if "up_to" in t else None, t["unit_price"]) for t in product["tiers"]]
        if product["tiering"] == "volume":
            yield quantity, next(price for top, price in tiers if top is None or quantity <= top)
            return
        left, floor = quantity, Fraction(0)
        for top, price in tiers:
            part = left if top is None else min(left, top - floor)
            if part > 0:
                yield part, price
            left, floor = left - part, floor + part

    def usage(self):
        everybody = {who for _, _, state in self.slices for who in state["open"].values()}
        if not everybody and not any(state["tariff"] for _, _, state in self.slices):
            return None
        seats = [(at, end, len(self.users(state))) for at, end, state in self.slices]
        peak = max(n for _, _, n in seats)
        peak_at = next(at for at, _, n in seats if n == peak)
        team = [(at, end, state) for at, end, state in self.slices if state["tariff"] == "team"]
        booked = [
            (end - at, state["booked"].get("team", 0), len(self.users(state))) for at, end, state in team
        ]
        p95 = 0
        while 100 * sum(end - at for at, end, n in seats if n <= p95) < 95 * (self.end - self.start):
            p95 += 1
        denied = {
            (line["ms"], line["user"], line["reason"])
            for line in self.lines
            if line["event"] == "denied" and self.start <= line["ms"] < self.end
        }
        return [
            self.period,
            self.name,
            str(peak),
            print_instant(peak_at, self.zone) if peak else "",
            str(max((b for _, b, _ in booked), default=0)),
            show(half_up(Fraction(sum((end - at) * n for at, end, n in seats), 3_600_000), 4)),
            str(p95),
            str(len({user for user, service in everybody if not service})),
            str(len(denied)),
            show(half_up(Fraction(sum(t for t, b, n in booked if n >= b), 60_000), 4)),
        ]


def tenants(lines, period, zone):
    return [Tenant(name, lines, period, zone) for name in sorted({line["tenant"] for line in lines})]


def charges_csv(lines, prices, period):
    rows = [row for t in tenants(lines, period, prices["timezone"]) for row in t.charges(prices)]
    return "\n".join([CHARGES, *(",".join(row) for row in rows)]) + "\n"


def usage_csv(lines, prices, period):
    rows = [row for t in tenants(lines, period, prices["timezone"]) if (row := t.usage())]
    return "\n".join([USAGE, *(",".join(row) for row in rows)]) + "\n"
