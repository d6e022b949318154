"""Receipts: only the one text that was issued is taken, for the one lease that it was issued for."""

import hmac
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatd.model import Refusal
from seatd.seats.receipts import RECEIPT_MAX, Keyring, Receipt, _mac, seal, unseal
from tests.seats.plane import RING

ids = st.text(string.ascii_letters + string.digits + "._@:+-", min_size=1, max_size=128)
instants = st.integers(0, 2**47)
receipts = st.builds(
    Receipt, ids, ids, ids, ids, instants, instants, st.sampled_from(("team", "agent", "service")), st.integers(0, 10**6), st.integers(0, 10**9)
)  # fmt: skip
letters = st.characters(max_codepoint=300)
HELD = Receipt("acme", "ana", "pc1", "lease1", 1_800_000_000_000, 1_800_000_300_000, "team", 50, 7)
TEXT = seal(RING, HELD)


def refused(text: str, tenant: str = "acme", lease: str = "lease1", ring: Keyring = RING) -> bool:
    with pytest.raises(Refusal) as caught:
        unseal(ring, text, tenant=tenant, lease=lease)
    return caught.value.code == "receipt_invalid"


@given(receipts)
def test_comes_back_as_it_was_issued(receipt: Receipt) -> None:
    text = seal(RING, receipt)
    assert len(text) <= RECEIPT_MAX
    assert unseal(RING, text, tenant=receipt.tenant, lease=receipt.lease) == receipt


@given(receipts, st.data())
def test_any_changed_character_is_refused(receipt: Receipt, data: st.DataObject) -> None:
    text = seal(RING, receipt)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(letters.filter(lambda c: c != text[at]))
    assert refused(text[:at] + letter + text[at + 1 :], receipt.tenant, receipt.lease)


def test_every_place_and_every_letter() -> None:
    for at in range(len(TEXT)):
        for letter in set(string.ascii_letters + string.digits + "-_+/= \n\0") - {TEXT[at]}:
            assert refused(TEXT[:at] + letter + TEXT[at + 1 :])


@given(receipts)
def test_the_other_alphabet_is_refused(receipt: Receipt) -> None:
    text = seal(RING, receipt)
    for ours, other in (("-", "+"), ("_", "/")):
        if ours in text:
            assert refused(text.replace(ours, other), receipt.tenant, receipt.lease)


@pytest.mark.parametrize("added", ["=", "==", "A", "\n", " ", "%", "ä"])
def test_any_added_character_is_refused(added: str) -> None:
    for at in range(len(TEXT) + 1):
        changed = TEXT[:at] + added + TEXT[at:]
        if changed != TEXT:
            assert refused(changed)


def test_any_missing_character_is_refused() -> None:
    for at in range(len(TEXT)):
        assert refused(TEXT[:at] + TEXT[at + 1 :])


@pytest.mark.parametrize("text", ["", "A", "AQ", TEXT + TEXT, "A" * (RECEIPT_MAX + 1), "=" * 40, "\0" * 40])
def test_garbage_is_refused(text: str) -> None:
    assert refused(text)


def test_a_receipt_serves_its_own_lease_alone() -> None:
    assert refused(TEXT, tenant="beta")
    assert refused(TEXT, lease="lease2")


def test_an_unknown_key_and_a_wrong_secret_are_refused() -> None:
    assert refused(TEXT, ring=Keyring(b"efgh", {b"efgh": b"x" * 32}))
    assert refused(TEXT, ring=Keyring(b"abcd", {b"abcd": b"y" * 32}))


def test_a_retired_key_still_checks() -> None:
    ring = Keyring(b"efgh", {b"efgh": b"y" * 32, b"abcd": b"x" * 32})
    assert unseal(ring, TEXT, tenant="acme", lease="lease1") == HELD
    assert seal(ring, HELD) != TEXT


def test_a_ring_shows_no_secret() -> None:
    assert "x" * 8 not in repr(RING)


@given(secret=st.binary(min_size=1, max_size=100), payload=st.binary(max_size=300))
def test_the_mac_is_that_of_the_standard_library(secret: bytes, payload: bytes) -> None:
    assert _mac(secret, payload) == hmac.digest(secret, payload, "sha256")[:16]
