"""The keys of receipts: how they are sealed, who signs when, and when what they signed is worth nothing."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from seatd.accounts.receipt_keys import (
    KEYS_MAX,
    OVERLAP_MS,
    ReceiptKey,
    ReceiptKeys,
    WrongSecretError,
    open_ring,
    seal_ring,
)
from seatd.accounts.service import Accounts
from seatd.database.engine import make_engine, reading, writing
from seatd.database.schema import receipt_keys
from seatd.model import TTL_MS_MAX, Refusal
from seatd.seats.receipts import Keyring, Receipt, seal, unseal
from tests.accounts.conftest import Clock

ME = "k_test"
SECRET = bytes(range(32))
HELD = Receipt("acme", "ana", "pc1", "lease1", start_ms=0, expires_ms=0, kind="team", cap=0)


def keyring(ring: ReceiptKeys, at_ms: int) -> Keyring:
    return Keyring.of(ring.signing(at_ms), ring.verifying(at_ms))


def worth(ring: ReceiptKeys, text: str, at_ms: int, *, tenant: str = "acme") -> bool:
    try:
        return unseal(keyring(ring, at_ms), text, tenant=tenant, lease="lease1") == HELD
    except Refusal as refusal:
        return refusal.code != "receipt_invalid"


async def test_they_are_sealed_under_the_secret(accounts: Accounts) -> None:
    ring = await accounts.receipt_keys(SECRET)
    assert await accounts.receipt_keys(SECRET) == ring
    (key,) = ring.keys
    assert len(key.secret) == 32
    assert repr(key.secret)[2:-1] not in repr(ring)
    async with reading(accounts.engine) as connection:
        sealed = (await connection.execute(select(receipt_keys.c.sealed))).scalar_one()
    assert key.secret not in sealed
    for use in (
        accounts.receipt_keys(SECRET[::-1]),
        accounts.rotate_receipt_key(SECRET[::-1], signs_in_ms=1, actor=ME),
    ):
        with pytest.raises(WrongSecretError):
            await use
    with pytest.raises(ValueError, match="32"):
        await accounts.receipt_keys(b"short")
    assert await accounts.receipt_keys(SECRET) == ring


async def test_they_cannot_be_swapped_or_changed(accounts: Accounts) -> None:
    await accounts.receipt_keys(SECRET)
    async with writing(accounts.engine) as connection:
        await connection.execute(update(receipt_keys).values(kid="r_another"))
    with pytest.raises(WrongSecretError):
        await accounts.receipt_keys(SECRET)


@given(
    st.lists(st.builds(ReceiptKey, st.text(max_size=9), st.binary(max_size=40), st.none() | st.integers(0)))
)
def test_a_copy_is_opened_as_it_was_sealed_or_not_at_all(keys: list[ReceiptKey]) -> None:
    ring = ReceiptKeys(tuple(keys))
    sealed = seal_ring(ring, SECRET)
    assert open_ring(sealed, SECRET) == ring
    for at in (0, len(sealed) // 2, -1):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(WrongSecretError):
            open_ring(bytes(changed), SECRET)


async def test_seatds_that_start_at_once_make_one_key(database_url: str) -> None:
    all_of_them = [Accounts(make_engine(database_url)) for _ in range(4)]
    rings = await asyncio.gather(*(accounts.receipt_keys(SECRET) for accounts in all_of_them))
    assert len({ring.keys for ring in rings}) == 1
    for accounts in all_of_them:
        await accounts.engine.dispose()


async def test_a_new_key_signs_when_every_seatd_has_it(accounts: Accounts, clock: Clock) -> None:
    (first,) = (await accounts.receipt_keys(SECRET)).keys
    began_ms = clock.now_ms
    new = await accounts.rotate_receipt_key(SECRET, signs_in_ms=60_000, actor=ME)
    assert (new.signs_from_ms, new.older_verify_until_ms) == (
        began_ms + 60_000,
        began_ms + 60_000 + OVERLAP_MS,
    )
    ring = await accounts.receipt_keys(SECRET)
    assert [key.kid for key in ring.keys] == [first.kid, new.kid]
    assert [ring.signing(new.signs_from_ms + d) for d in (-60_000, -1, 0, 10**9)] == [
        first.kid,
        first.kid,
        new.kid,
        new.kid,
    ]
    assert ring.keys[0].secret == first.secret != ring.keys[1].secret


async def test_a_receipt_of_an_old_key_is_worth_nothing_beyond_the_overlap(
    accounts: Accounts, clock: Clock
) -> None:
    text = seal(keyring(await accounts.receipt_keys(SECRET), clock.now_ms), HELD)
    new = await accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME)
    ring = await accounts.receipt_keys(SECRET)
    last_ms = new.older_verify_until_ms - 1
    assert last_ms - new.signs_from_ms >= TTL_MS_MAX
    for at_ms in (clock.now_ms, new.signs_from_ms - 1, new.signs_from_ms, last_ms):
        assert worth(ring, text, at_ms)
        assert not worth(ring, text, at_ms, tenant="beta")
    assert not worth(ring, text, last_ms + 1)  # by the keys in memory, though nobody can be asked
    clock.now_ms = last_ms
    assert worth(await accounts.receipt_keys(SECRET), text, last_ms)
    clock.now_ms += 1
    assert [key.kid for key in (await accounts.receipt_keys(SECRET)).keys] == [new.kid]


@given(st.data())
def test_whoever_signs_verifies_until_no_lease_of_it_can_run(data: st.DataObject) -> None:
    gaps = data.draw(st.lists(st.integers(0, 2 * OVERLAP_MS), max_size=6))
    retired = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    ring = ReceiptKeys(tuple(ReceiptKey(f"r{i}", bytes([i]) * 32, r) for i, r in enumerate([*retired, None])))
    signed_ms = data.draw(st.integers(0, sum(gaps) + OVERLAP_MS))
    text = seal(keyring(ring, signed_ms), HELD)
    assert worth(ring, text, signed_ms + data.draw(st.integers(0, TTL_MS_MAX)))
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("AQgw_-z09=").filter(lambda c: c != text[at]))
    assert not worth(ring, text[:at] + letter + text[at + 1 :], signed_ms)
    ends_ms = dict(zip((f"r{i}" for i in range(len(retired))), retired, strict=True)).get(
        ring.signing(signed_ms)
    )
    if ends_ms is not None:
        assert not worth(ring, text, ends_ms + OVERLAP_MS + data.draw(st.integers(0, 10**9)))


async def test_rotations_follow_one_another_whatever_the_clocks_say(accounts: Accounts, clock: Clock) -> None:
    await accounts.receipt_keys(SECRET)
    made = []
    for step_ms in (0, -3_000, 1, -1, 0):
        clock.now_ms += step_ms
        made.append((await accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME)).kid)
    ring = await accounts.receipt_keys(SECRET)
    assert [key.kid for key in ring.keys[1:]] == made
    assert ring.signing(clock.now_ms + 5_000) == made[-1]
    assert ring.signing(clock.now_ms) == ring.keys[0].kid


async def test_a_sooner_rotation_overtakes_a_later_one(accounts: Accounts, clock: Clock) -> None:
    first = (await accounts.receipt_keys(SECRET)).keys[0]
    await accounts.rotate_receipt_key(SECRET, signs_in_ms=60_000, actor=ME)
    sooner = await accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME)
    ring = await accounts.receipt_keys(SECRET)
    assert ring.signing(clock.now_ms + 4_999) == first.kid
    assert ring.signing(clock.now_ms + 5_000) == sooner.kid


async def test_only_so_many_keys_verify_at_once(accounts: Accounts, clock: Clock) -> None:
    await accounts.receipt_keys(SECRET)
    for _ in range(KEYS_MAX - 1):
        await accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME)
    before = await accounts.receipt_keys(SECRET)
    with pytest.raises(Refusal, match="conflict"):
        await accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME)
    assert await accounts.receipt_keys(SECRET) == before
    clock.now_ms += 5_000 + OVERLAP_MS
    assert (await accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME)).kid


async def test_rotations_are_in_the_audit_log_without_the_key(accounts: Accounts, clock: Clock) -> None:
    await accounts.receipt_keys(SECRET)
    new = await accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME)
    row = (await accounts.audit_log()).items[-1]
    assert (row.action, row.actor, row.tenant) == ("receipt_key.rotate", ME, None)
    assert row.detail == {"kid": new.kid, "signs_from_ms": clock.now_ms + 5_000}
    assert await accounts.audit_broken_at() is None


async def test_rotations_at_once_are_one_after_the_other(database_url: str) -> None:
    both = [Accounts(make_engine(database_url)) for _ in range(3)]
    made = await asyncio.gather(
        *(accounts.rotate_receipt_key(SECRET, signs_in_ms=5_000, actor=ME) for accounts in both)
    )
    ring = await both[0].receipt_keys(SECRET)
    assert {key.kid for key in ring.keys} == {new.kid for new in made}
    assert [key.retired_ms is None for key in ring.keys] == [False, False, True]
    for accounts in both:
        await accounts.engine.dispose()


def test_a_key_shows_no_secret() -> None:
    assert "x" * 8 not in repr(ReceiptKeys((ReceiptKey("r_1", b"x" * 32),)))
