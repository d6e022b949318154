"""The script of the evidence bundle reckons a month as the oracle does, and knows a good signature from a bad one."""

import tomllib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seatd.billing import verify_bundle
from tests.billing import oracle
from tests.billing.histories import PERIODS, ZONES, histories, price_lists, toml

SLOW = settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))


@st.composite
def cases(draw):
    zone, period = draw(st.sampled_from(ZONES)), draw(st.sampled_from(PERIODS))
    return draw(histories(period, zone)), draw(price_lists(zone)), period


def charges_csv(lines, prices, period):
    month = verify_bundle.Month(period, prices["timezone"])
    read = tomllib.loads(toml(prices))
    rows = [verify_bundle.CHARGES]
    for tenant in sorted({line["tenant"] for line in lines}):
        own = [line for line in lines if line["tenant"] == tenant]
        rows += verify_bundle.Tenant(own, month).charges(read)
    return "\n".join(rows) + "\n"


@given(cases())
@SLOW
def test_charges_are_the_oracles(case):
    lines, prices, period = case
    assert charges_csv(lines, prices, period) == oracle.charges_csv(lines, prices, period)


def test_time_on_trial_is_not_charged_for():
    at: dict[str, Any] = {"at": "2026-01-01T00:00:00Z", "tenant": "acme"}
    lines: list[dict[str, Any]] = [
        at | {"event": "booking", "product": "team", "quantity": 2},
        at | {"event": "tariff", "tariff": "team", "trial": True},
        at | {"at": "2026-03-21T00:00:00+01:00", "event": "tariff", "tariff": "team"},
    ]
    prices = {
        "version": "v",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "vat": {"standard": "19"},
        "products": {"team": {"name": "x", "unit_price": "10.00"}},
    }
    month = verify_bundle.Month("2026-03", "Europe/Berlin")
    (row,) = verify_bundle.Tenant(lines, month).charges(prices)
    assert ",2026-03-21T00:00:00+01:00,2026-04-01T00:00:00+02:00,1,2,10.00,20.00,19," in row


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 95), st.integers(1, 255))
@settings(deadline=None, max_examples=25)
def test_signatures_are_those_of_the_library(seed, message, at, change):
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert verify_bundle.signed_by(public, message, signature)
    both = bytearray(public + signature)
    both[at] ^= change
    assert not verify_bundle.signed_by(bytes(both[:32]), message, bytes(both[32:]))
    assert not verify_bundle.signed_by(public, message + b"x", signature)


@pytest.mark.parametrize("lengths", [(0, 64), (31, 64), (32, 63), (32, 0)])
def test_what_is_no_signature_is_none(lengths):
    assert not verify_bundle.signed_by(bytes(lengths[0]), b"", bytes(lengths[1]))


def test_a_signature_has_one_form():
    """The number in it is less than the order of the group: adding that makes another text, and no signature."""
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    signature = key.sign(b"x")
    number = int.from_bytes(signature[32:], "little") + verify_bundle.Q
    other = signature[:32] + number.to_bytes(32, "little")
    assert not verify_bundle.signed_by(key.public_key().public_bytes_raw(), b"x", other)
