"""The booking batch, field by field, and its sums against the bill."""

import csv
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatd.billing.datev import COLUMNS, ENCODING, Accounts, Line, Revenue, UnmappedError, booking_batch
from seatd.billing.datev_toml import AccountsError, parse_accounts

MADE = datetime(2026, 4, 3, 8, 30, 5, 123_456, tzinfo=UTC)
MAPPING = """
consultant = 29098
client = 55003
chart = "03"
debtor = "10000"
[rates]
19 = { account = "8400" }
7 = { account = "8300", tax_key = "2" }
[products]
support = { account = "8410" }
[debtors]
acme = "10001"
"""
ACCOUNTS = parse_accounts(MAPPING)


def rows(lines, accounts=ACCOUNTS, period="2026-03"):
    raw = booking_batch(lines, accounts, period=period, currency="EUR", made_at=MADE)
    text = raw.decode(ENCODING)
    assert text.endswith("\r\n")
    return list(csv.reader(text.splitlines(), delimiter=";"))


def line(product, net, *, tenant="acme", customer=None, rate="19"):
    return Line(tenant, customer or tenant, product, Decimal(rate), Decimal(net))


def test_a_batch_is_laid_out_as_the_format_says():
    header, columns, *booked = rows([line("team", "100.00"), line("support", "10.00"), line("team", "50.00")])
    assert header == [
        *("EXTF", "700", "21", "Buchungsstapel", "13", "20260403083005123", "", "SD", "", ""),
        *(
            "29098",
            "55003",
            "20260101",
            "4",
            "20260301",
            "20260331",
            "seatd 2026-03",
            "",
            "1",
            "0",
            "0",
            "EUR",
        ),
        *("", "", "", "", "03", "", "", "", ""),
    ]
    assert (len(header), len(columns)) == (31, 125)
    assert tuple(columns) == COLUMNS
    assert [len(row) for row in booked] == [125, 125]
    assert booked[0][:14] == [
        *(
            "178,50",
            "S",
            "EUR",
            "",
            "",
            "",
            "10001",
            "8400",
            "",
            "3103",
            "2026-03-acme",
            "",
            "",
            "seatd 2026-03 acme",
        )
    ]
    assert (booked[1][0], booked[1][7]) == ("11,90", "8410")


def test_text_is_quoted_and_numbers_are_not():
    raw = booking_batch([line("team", "1.00")], ACCOUNTS, period="2026-02", currency="EUR", made_at=MADE)
    first, _, booking = raw.decode(ENCODING).splitlines()
    assert first.startswith('"EXTF";700;21;"Buchungsstapel";13;20260403083005123;;"SD";"";"";29098;55003;')
    assert booking.startswith('1,19;"S";"EUR";;;;10001;8400;"";2802;"2026-02-acme";;;"seatd 2026-02 acme";')


def test_a_correction_is_booked_the_other_way_round():
    (_, _, row) = rows([line("team", "-100.00")])
    assert row[:2] == ["119,00", "H"]
    assert len(rows([line("team", "-1.00"), line("team", "1.00")])) == 2


def test_a_fiscal_year_that_begins_in_july_began_last_year():
    accounts = parse_accounts("fiscal_year_month = 7\n" + MAPPING)
    assert rows([], accounts)[0][12] == "20250701"
    assert rows([], accounts, "2026-07")[0][12] == "20260701"


def test_a_long_or_strange_name_stays_within_its_field():
    (_, _, row) = rows([line("team", "1.00", tenant="a@b:" + "x" * 100, customer="acme")])
    assert row[10] == "2026-03-a-b-" + "x" * 24
    assert len(row[13]) == 60


def test_what_has_no_account_is_named_and_nothing_is_written():
    accounts = Accounts(1001, 1, {"19": Revenue("8400")}, debtors={"acme": "10001"})
    with pytest.raises(UnmappedError) as missing:
        rows([line("team", "1.00"), line("book", "1.00", tenant="zeta", rate="7.0")], accounts)
    assert missing.value.missing == ("VAT 7 %", "customer zeta")


amounts = st.decimals(-1000, 1000, places=2).map(lambda each: each + Decimal("0.00"))


@given(
    st.lists(st.tuples(st.sampled_from(["team", "support", "x"]), amounts, st.sampled_from(["19", "7", "0"])))
)
def test_the_bookings_of_a_rate_add_up_to_the_bill(drawn):
    accounts = parse_accounts(MAPPING.replace("7 = {", '0 = { account = "8200" }\n7 = {'))
    booked = rows([line(product, net, rate=rate) for product, net, rate in drawn], accounts)[2:]
    total = sum(
        (Decimal(row[0].replace(",", ".")) * (-1 if row[1] == "H" else 1) for row in booked), Decimal(0)
    )
    expected = Decimal(0)
    for rate in ("19", "7", "0"):
        cents = sum(int(net * 100) for _, net, its in drawn if its == rate)
        tax, rest = divmod(abs(cents) * int(rate), 100)
        tax += rest >= 50
        expected += Decimal(cents + (tax if cents >= 0 else -tax)) / 100
    assert total == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("client = 1", "consultant"),
        ("wrong = 1\n" + MAPPING, "wrong"),
        (MAPPING.replace("29098", "12"), "consultant"),
        (MAPPING.replace('"8400"', '"84000"'), "account_length"),
        (MAPPING.replace('"10001"', '"1001"'), "5 digits"),
        (MAPPING.replace("19 =", "many ="), "no percentage"),
        (MAPPING.replace("19 =", "NaN ="), "no percentage"),
        (MAPPING.replace('"03"', '"3"'), "chart"),
        ("consultant = ?", "line 1"),
    ],
)
def test_a_wrong_mapping_says_where(text, why):
    with pytest.raises(AccountsError, match=why):
        parse_accounts(text)
