"""Tickets of places in line: only ours, only the user's own, and no receipt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatd.model import ID_PATTERN, Refusal
from seatd.seats import receipts
from seatd.seats.places import PLACE_MAX, Place, seal, unseal
from seatd.seats.receipts import Keyring, Receipt
from seatd.telemetry import scrub

RING = Keyring.of("k2", {"k1": b"a" * 32, "k2": b"b" * 32})
PLACE = Place("acme", "ana", 1_800_000_000_000, 1_800_000_060_000)
ids = st.from_regex(ID_PATTERN.replace("\\Z", ""), fullmatch=True)
instants = st.integers(0, 1 << 53)


def opened(text: str, tenant: str = "acme", user: str = "ana", ring: Keyring = RING) -> Place:
    return unseal(ring, text, tenant=tenant, user=user)


@given(ids, ids, instants, instants)
def test_what_is_sealed_is_opened(tenant: str, user: str, order: int, until: int) -> None:
    place = Place(tenant, user, order, until)
    text = seal(RING, place)
    assert len(text) <= PLACE_MAX
    assert opened(text, tenant, user) == place


def test_an_older_key_opens_and_an_unknown_one_does_not() -> None:
    older = seal(Keyring.of("k1", {"k1": b"a" * 32}), PLACE)
    assert opened(older) == PLACE
    for ring in (Keyring.of("k9", {"k9": b"c" * 32}), Keyring.of("k1", {"k1": b"c" * 32})):
        with pytest.raises(Refusal, match="invalid_request"):
            opened(seal(ring, PLACE))


@given(st.integers(0, 200), st.characters(codec="utf-8"))
def test_no_changed_character_passes(at: int, other: str) -> None:
    text = seal(RING, PLACE)
    at %= len(text)
    if text[at] == other:
        return
    with pytest.raises(Refusal) as caught:
        opened(text[:at] + other + text[at + 1 :])
    assert caught.value.fields["errors"][0]["field"] == "place"


@given(st.text(max_size=PLACE_MAX))
def test_no_text_at_all_passes(text: str) -> None:
    with pytest.raises(Refusal, match="invalid_request"):
        opened(text)


def test_nobody_stands_in_anothers_place() -> None:
    text = seal(RING, PLACE)
    for tenant, user in (("beta", "ana"), ("acme", "bob")):
        with pytest.raises(Refusal, match="not this user's"):
            opened(text, tenant, user)


def test_a_place_is_no_receipt_and_a_receipt_no_place() -> None:
    receipt = receipts.seal(RING, Receipt("acme", "ana", "pc", "lease", 1, 2, "team", 3))
    with pytest.raises(Refusal, match="invalid_request"):
        opened(receipt)
    with pytest.raises(Refusal, match="receipt_invalid"):
        receipts.unseal(RING, seal(RING, PLACE), tenant="acme", lease="lease")


def test_no_log_shows_a_place() -> None:
    text = seal(RING, PLACE)
    assert text not in scrub(f"refused with {text}.")
