"""Random histories and price lists: small, and full of the instants where a month is decided."""

import datetime as dt
import json

from hypothesis import strategies as st

from tests.billing.oracle import bounds, local

METRICS = [
    "booked_peak",
    "used_peak",
    "distinct_named",
    "booked_average",
    "named_average",
    "seat_hours",
    "flat",
    "metered",
]
PRODUCTS = ["team", "agent", "social", "ocr", "pages"]
ZONES = [
    "Europe/Berlin",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/New_York",
    "UTC",
]
PERIODS = ["2026-03", "2026-10", "2026-11", "2026-02", "2024-02", "2027-01"]
DAY = 86_400_000


def instants(period, zone):
    """Most of them near an edge or at a local midnight, a few anywhere, few enough to meet."""
    start, end = bounds(period, zone)
    edges = [start, end, start - 1, end - 1, start + 1, start - 40 * DAY, end + 5 * DAY]
    midnights = [
        bounds_of_day
        for day in range(1, 29, 3)
        for bounds_of_day in (start + (day - 1) * DAY, start + (day - 1) * DAY + 3_600_000)
    ]
    return st.sampled_from(edges) | st.sampled_from(midnights) | st.integers(start - DAY, end + DAY)


@st.composite
def written(draw, at):
    """Write an instant in any of the ways a line may."""
    offset = draw(st.sampled_from([0, 60, 120, -300, 330]))
    there = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=at, minutes=offset)
    text = there.strftime("%Y-%m-%dT%H:%M:%S")
    if at % 1000:
        text += f".{at % 1000:03}".rstrip("0")
    sign = "-" if offset < 0 else "+"
    return text + ("Z" if offset == 0 else f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}")


@st.composite
def settings_lines(draw, when):
    kind = draw(st.sampled_from(["tariff", "tariff", "booking", "bound", "unbound", "bound"]))
    line = {"at": draw(written(draw(when))), "tenant": draw(tenant_names), "event": kind}
    if kind == "tariff":
        line["tariff"] = draw(st.sampled_from(["team", "agent", None]))
        if draw(st.booleans()) and line["tariff"]:
            line["trial"] = draw(st.booleans())
    else:
        line["product"] = draw(st.sampled_from(PRODUCTS))
    if kind == "booking":
        line["quantity"] = draw(st.integers(0, 4))
    if kind in ("bound", "unbound"):
        line["user"] = draw(users)
    return line


@st.composite
def leases(draw, when, number):
    start, end = sorted((draw(when), draw(when)))
    tenant = draw(tenant_names)
    begun = {"at": draw(written(start)), "tenant": tenant, "event": "seat_started", "lease": f"l{number}"}
    begun["user"] = draw(users)
    kind = draw(st.sampled_from([None, None, "team", "service"]))
    if kind:
        begun["tariff"] = kind
    lines = [begun]
    if draw(st.integers(0, 3)):
        ended = {"at": draw(written(end)), "tenant": tenant, "event": "seat_ended", "lease": f"l{number}"}
        lines.append(ended)
    return lines


@st.composite
def happenings(draw, when, number):
    line = {"at": draw(written(draw(when))), "tenant": draw(tenant_names)}
    if draw(st.booleans()):
        return line | {"event": "denied", "user": draw(users), "reason": "no_seat"}
    quantity = draw(st.sampled_from(["0", "1", "2.5", "950", "0.000001", "12050", "3.10"]))
    product = draw(st.sampled_from(PRODUCTS))
    return line | {"event": "metered", "product": product, "quantity": quantity, "id": f"m{number}"}


tenant_names = st.sampled_from(["acme", "acme", "acme", "Birch"])
users = st.sampled_from(["ana", "bo", "cy"])


def contract(period, zone):
    """Write a tenant that uses everything: what is drawn beside it then changes something."""
    start, _ = bounds(period, zone)
    before = {"at": local(start - 3 * DAY, "UTC").isoformat(timespec="milliseconds"), "tenant": "acme"}
    within = {**before, "at": local(start + 9 * DAY, "UTC").isoformat(timespec="milliseconds")}
    lines = [before | {"event": "tariff", "tariff": "team"}, within | {"event": "tariff", "tariff": "agent"}]
    for product in PRODUCTS:
        lines.append(before | {"event": "booking", "product": product, "quantity": 3})
        lines.append(before | {"event": "bound", "product": product, "user": "ana"})
        reading = {"event": "metered", "product": product, "quantity": "3.5", "id": "c"}
        lines.append(within | reading)
    return [*lines, before | {"event": "seat_started", "lease": "c", "user": "ana"}]


@st.composite
def histories(draw, period, zone):
    """Return lines as dicts, in file order."""
    when = instants(period, zone)
    lines = draw(st.just([]) | st.just(contract(period, zone)))
    lines = lines + draw(st.lists(settings_lines(when), max_size=14))
    for number in range(draw(st.integers(0, 5))):
        lines += draw(leases(when, number))
    for number in range(draw(st.integers(0, 4))):
        lines.append(draw(happenings(when, number)))
    return lines


prices = st.sampled_from(["39.00", "0.005", "9.5", "0", "0.0123", "-0.005", "333.33"])


@st.composite
def products(draw, name):
    product = {"name": name}
    if name in ("team", "agent"):
        product["tariff"] = name
    elif draw(st.booleans()):
        product["scope"] = draw(st.sampled_from(["named", "tenant"]))
    if draw(st.integers(0, 7)):
        product["metric"] = draw(st.sampled_from(METRICS))
    if not draw(st.integers(0, 2)):
        product["charged"] = draw(st.sampled_from(["always", "charged_time"]))
    if draw(st.booleans()):
        product["vat"] = "reduced"
    tops = draw(
        st.none() | st.lists(st.sampled_from(["0.5", "1", "2", "3", "1000"]), unique=True, max_size=3)
    )
    if tops is None:
        return product | {"unit_price": draw(prices)}
    tiers = [{"up_to": top, "unit_price": draw(prices)} for top in sorted(tops, key=float)]
    tiering = draw(st.sampled_from(["graduated", "volume"]))
    return product | {"tiering": tiering, "tiers": [*tiers, {"unit_price": draw(prices)}]}


@st.composite
def price_lists(draw, zone):
    return {
        "version": "v1",
        "valid_from": dt.date(2020, 1, 1),
        "currency": "EUR",
        "timezone": zone,
        "vat": {"standard": "19", "reduced": "7.0"},
        "products": {name: draw(products(name)) for name in PRODUCTS},
    }


def jsonl(lines):
    return [(json.dumps(line) + "\n").encode() for line in lines]


def toml(value):
    """Write a price list; a JSON string is a TOML string too."""
    out = [f"{k} = {_scalar(v)}" for k, v in value.items() if not isinstance(v, dict)]
    out += ["[vat]", *(f"{k} = {_scalar(v)}" for k, v in value["vat"].items())]
    for name, product in value["products"].items():
        out += [f"[products.{name}]", *(f"{k} = {_scalar(v)}" for k, v in product.items())]
    return "\n".join(out) + "\n"


def _scalar(value):
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_scalar(v)}" for k, v in value.items()) + "}"
    return value.isoformat() if isinstance(value, dt.date) else json.dumps(value)


__all__ = ["histories", "jsonl", "local", "price_lists", "toml"]
