"""Price lists: what is read, what is refused and where, and which list is in force."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from seatd.catalogue.pricelist import Metric, PriceListError, ProductScope, Tiering, in_force
from seatd.catalogue.pricelist_toml import parse_price_list
from seatd.model import Tariff

EXAMPLE = (Path(__file__).parents[1] / "billing" / "examples" / "prices.toml").read_text()

HEAD = """version = "v1"
valid_from = 2026-01-01
currency = "EUR"
timezone = "Europe/Berlin"
vat = { standard = "19", reduced = "7.0" }
"""


def product(body, name="social"):
    return f'{HEAD}[products.{name}]\nname = "Thing"\n{body}\n'


def one(body, name="social"):
    return parse_price_list(product(body, name)).products[name]


def test_the_example():
    prices = parse_price_list(EXAMPLE)
    assert (prices.version, prices.valid_from) == ("2026-example", dt.date(2026, 1, 1))
    assert (prices.currency, prices.timezone) == ("EUR", "Europe/Berlin")
    assert len(prices.products) == 17
    pages = prices.products["ocr_pages"]
    assert pages.tiering is Tiering.GRADUATED
    assert [tier.up_to for tier in pages.tiers] == [Decimal(1000), Decimal(10000), None]
    assert pages.tiers[2].unit_price.text == "0.008"
    assert prices.products["support_basic"].always
    assert not pages.always
    assert prices.products["team"].vat_rate.text == "19"


@pytest.mark.parametrize(
    ("name", "body", "metric"),
    [
        ("team", 'tariff = "team"', Metric.BOOKED_PEAK),
        ("team", "", Metric.BOOKED_PEAK),
        ("agent", 'tariff = "agent"', Metric.DISTINCT_NAMED),
        ("social", "", Metric.DISTINCT_NAMED),
        ("social", 'scope = "named"', Metric.DISTINCT_NAMED),
        ("social", 'scope = "tenant"', Metric.FLAT),
        ("social", 'scope = "tenant"\nmetric = "seat_hours"', Metric.SEAT_HOURS),
    ],
)
def test_default_metrics(name, body, metric):
    assert one(f'{body}\nunit_price = "1"', name).metric is metric


def test_defaults():
    plain = one('unit_price = "1.50"')
    assert (plain.tariff, plain.scope, plain.tiering) == (None, ProductScope.NAMED, None)
    assert (plain.vat, plain.vat_rate.text, plain.always) == ("standard", "19", False)
    assert one('vat = "reduced"\nunit_price = "1"').vat_rate.text == "7.0"
    assert one('charged = "charged_time"\nunit_price = "1"').always is False


def test_the_products_so_called_are_of_their_tariff():
    assert one('unit_price = "1"', "team").tariff is Tariff.TEAM
    assert one('tariff = "agent"\nunit_price = "1"', "agent").tariff is Tariff.AGENT


TIERS = 'tiering = "volume"\ntiers = '
LAST = '{ unit_price = "1" }'

BAD_PRODUCTS = [
    ('unit_price = "1"\nprice = "1"', "products.social.price", 9),
    ("", "products.social.unit_price", 6),
    ("unit_price = 1", "products.social.unit_price", 8),
    ("unit_price = 1.5", "products.social.unit_price", 8),
    ('unit_price = ""', "products.social.unit_price", 8),
    ('unit_price = "1e3"', "products.social.unit_price", 8),
    ('unit_price = "NaN"', "products.social.unit_price", 8),
    ('unit_price = "Infinity"', "products.social.unit_price", 8),
    ('unit_price = "1,50"', "products.social.unit_price", 8),
    ('unit_price = " 1"', "products.social.unit_price", 8),
    ('unit_price = "1_0"', "products.social.unit_price", 8),
    ('unit_price = "1."', "products.social.unit_price", 8),
    ('unit_price = "1"\ntariff = "team"', "products.social.tariff", 9),
    ('unit_price = "1"\ntariff = "gold"', "products.social.tariff", 9),
    ('unit_price = "1"\nscope = "all"', "products.social.scope", 9),
    ('unit_price = "1"\nmetric = "sum"', "products.social.metric", 9),
    ('unit_price = "1"\nmetric = ["flat"]', "products.social.metric", 9),
    ('unit_price = "1"\ncharged = "never"', "products.social.charged", 9),
    ('unit_price = "1"\ncharged = true', "products.social.charged", 9),
    ('unit_price = "1"\nvat = "luxury"', "products.social.vat", 9),
    ('unit_price = "1"\nvat = "19"', "products.social.vat", 9),
    ('unit_price = "1"\ntiering = "volume"', "products.social.tiering", 9),
    ('unit_price = "1"\ntiers = []', "products.social.tiers", 9),
    ('tiering = "volume"', "products.social.tiers", 6),
    (f"tiers = [{LAST}]", "products.social.tiering", 6),
    (f'tiering = "steps"\ntiers = [{LAST}]', "products.social.tiering", 8),
    (TIERS + "[]", "products.social.tiers", 9),
    (TIERS + '["1"]', "products.social.tiers", 9),
    (TIERS + LAST, "products.social.tiers", 9),
    (TIERS + '[{ up_to = "1", unit_price = "1" }]', "products.social.tiers.1.up_to", 9),
    (TIERS + f"[{LAST}, {LAST}]", "products.social.tiers.1.up_to", 9),
    (TIERS + f'[{{ up_to = 10, unit_price = "1" }}, {LAST}]', "products.social.tiers.1.up_to", 9),
    (TIERS + f'[{{ up_to = "0", unit_price = "1" }}, {LAST}]', "products.social.tiers.1.up_to", 9),
    (TIERS + f'[{{ up_to = "10" }}, {LAST}]', "products.social.tiers.1.unit_price", 9),
    (
        TIERS + f'[{{ up_to = "10", unit_price = "1", from = "1" }}, {LAST}]',
        "products.social.tiers.1.from",
        9,
    ),
    (
        TIERS + f'[{{ up_to = "9", unit_price = "1" }}, {{ up_to = "9.0", unit_price = "1" }}, {LAST}]',
        "products.social.tiers.2.up_to",
        9,
    ),
]


@pytest.mark.parametrize(("body", "place", "line"), BAD_PRODUCTS)
def test_a_bad_product(body, place, line):
    with pytest.raises(PriceListError) as caught:
        parse_price_list(product(body), source="p.toml")
    assert (caught.value.place, caught.value.line) == (place, line)
    assert str(caught.value).startswith(f"p.toml:{line}: {place}: ")


def changed(old, new):
    assert old in HEAD
    return product('unit_price = "1"').replace(old, new)


BAD_LISTS = [
    (changed('version = "v1"\n', ""), "version", 1),
    (changed('"v1"', "1"), "version", 1),
    (changed('"v1"', '""'), "version", 1),
    (changed('"v1"', '"a\\nb"'), "version", 1),
    (changed("valid_from = 2026-01-01\n", ""), "valid_from", 1),
    (changed("2026-01-01", '"2026-01-01"'), "valid_from", 2),
    (changed("2026-01-01", "2026-01-01T00:00:00"), "valid_from", 2),
    (changed("2026-01-01", "2026-01-01T00:00:00Z"), "valid_from", 2),
    (changed('"EUR"', '"Euro"'), "currency", 3),
    (changed('currency = "EUR"\n', ""), "currency", 1),
    (changed('"Europe/Berlin"', '"Berlin"'), "timezone", 4),
    (changed('"Europe/Berlin"', '"../../etc"'), "timezone", 4),
    (changed('"Europe/Berlin"', "1"), "timezone", 4),
    (changed('"19"', "19"), "vat.standard", 5),
    (changed('"19"', '"-1"'), "vat.standard", 5),
    (changed('"19"', '"100.1"'), "vat.standard", 5),
    (changed("standard = ", "normal = "), "products.social.vat", 6),
    (changed('vat = { standard = "19", reduced = "7.0" }\n', ""), "vat", 1),
    (changed('{ standard = "19", reduced = "7.0" }', '"19"'), "vat", 5),
    (changed("version", 'note = "x"\nversion'), "note", 1),
    (HEAD, "products", 1),
    (HEAD + "products = 1", "products", 6),
    (HEAD + "[products]\nsocial = 1", "products.social", 7),
    (product('unit_price = "1"', '"a b"'), "products.a b", 6),
    (product('unit_price = "1"', '""'), "products.", 6),
    (product('unit_price = "1"', "service"), "products.service", 6),
    (product('unit_price = "1"\ntariff = "agent"', "team"), "products.team.tariff", 9),
    (product('unit_price = "1"').replace('name = "Thing"\n', ""), "products.social.name", 6),
    (product('unit_price = "1"').replace('"Thing"', '" "'), "products.social.name", 7),
]


@pytest.mark.parametrize(("text", "place", "line"), BAD_LISTS)
def test_a_bad_list(text, place, line):
    with pytest.raises(PriceListError) as caught:
        parse_price_list(text)
    assert (caught.value.place, caught.value.line) == (place, line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD + "x = ", 6),
        (HEAD + "version = 'again'", 6),
        (HEAD + "[products]\n[products]\n", 7),
        (HEAD + "x = " + "[" * 50_000, 6),
        (HEAD + "x = " + "1" * 5000, 6),
        (HEAD + "x = 2026-02-30", 6),
    ],
)
def test_what_is_no_toml(text, line):
    with pytest.raises(PriceListError, match="not TOML") as caught:
        parse_price_list(text)
    assert caught.value.line == line


def dated(*dates):
    return [
        parse_price_list(HEAD.replace("2026-01-01", date).replace("v1", f"v{i}") + "[products]")
        for i, date in enumerate(dates)
    ]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2026-01-01"], "v0"),
        (["2026-03-01"], "v0"),
        (["2025-01-01", "2026-03-01", "2026-02-01"], "v1"),
        (["2026-01-01", "2026-03-02"], "v0"),
        # Two that are no longer, or not yet, in force leave nothing open.
        (["2025-01-01", "2025-01-01", "2026-01-01", "2027-01-01", "2027-01-01"], "v2"),
    ],
)
def test_in_force_is_the_newest_valid_on_the_first(dates, expected):
    assert in_force(dated(*dates), dt.date(2026, 3, 1)).version == expected


@pytest.mark.parametrize(
    "dates", [[], ["2026-03-02"], ["2026-01-01", "2026-01-01"], ["2025-01-01", "2026-03-01", "2026-03-01"]]
)
def test_none_in_force_or_two(dates):
    with pytest.raises(PriceListError, match="2026-03"):
        in_force(dated(*dates), dt.date(2026, 3, 1))
