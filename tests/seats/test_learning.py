"""After a loss of the store: who held a seat keeps it, nobody else gets one, and what was ended stays ended.

The real scripts on a real store, with a clock that the test moves (see world.py).  Losses are real: FLUSHALL, or
all keys put back as they were some time ago.
"""

from dataclasses import replace
from typing import Any

import pytest

from seatd.model import Refusal, Tariff, Tombstone
from seatd.seats.model import Caller
from seatd.seats.store import SCRIPTS, TENANT_KEYS
from tests.seats.house import DELTA, KEY, TTL, WINDOW, Q, house
from tests.valkey import ValkeyServer


async def code(awaited: Any) -> str:
    """The code of the refusal, with its reason; "granted" where there was none."""
    try:
        await awaited
    except Refusal as refusal:
        return " ".join([refusal.code, *([refusal.fields["reason"]] if "reason" in refusal.fields else [])])
    return "granted"


async def a_holder_keeps_its_seat_and_nobody_gets_one(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana, bob = await made.acquire("ana"), await made.acquire("bob")
        made.later(10_000)
        made.lose()
        kept = await made.renew(ana)
        assert kept.lease == ana.lease
        assert kept.expires_ms == made.now + TTL
        assert await code(made.acquire("cy")) == "learning"
        assert await code(made.acquire("ana")) == "learning"
        learns_until = made.now + WINDOW
        made.at(ana.expires_ms)  # bob's receipt runs out; the window of the ttl alone would be over
        kept = await made.renew(kept)
        made.at(learns_until - 1)
        assert await code(made.acquire("cy")) == "learning"
        kept = await made.renew(kept)
        made.at(learns_until)
        assert await code(made.acquire("cy")) == "granted"
        assert await code(made.acquire("dan")) == "no_seat"
        assert await code(made.renew(bob)) == "lease_gone expired"


async def a_released_lease_does_not_come_back(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        copy = made.copy()
        assert await made.release(ana)
        assert await code(made.acquire("bob")) == "granted"
        made.lose()
        assert await code(made.renew(ana)) == "lease_gone released"
        made.roll_back(copy)
        assert await code(made.renew(ana)) == "lease_gone released"


async def a_revoked_lease_does_not_come_back(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        copy = made.copy()
        await made.seats.revoke("acme", ana.lease)
        made.roll_back(copy)
        assert await code(made.renew(ana)) == "lease_gone revoked"
        made.lose()
        assert await code(made.renew(ana)) == "lease_gone revoked"


async def a_lease_revoked_by_force_while_learning_is_not_adopted_again(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        made.lose()
        kept = await made.renew(ana)
        await made.seats.revoke("acme", ana.lease, force=True)
        assert await code(made.renew(kept)) == "lease_gone revoked"


async def a_lowered_cap_refuses_no_holder(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        held = [await made.acquire("ana"), await made.acquire("bob")]
        made.change(cap=1)
        made.lose()
        for lease in held:
            assert await code(made.renew(lease)) == "granted"


async def a_cap_that_rose_and_fell_refuses_no_holder(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        made.change(cap=1)
        ana = await made.acquire("ana")
        made.change(cap=2)
        await made.project("acme")
        bob = await made.acquire("bob")
        made.change(cap=1)
        made.lose()
        assert await code(made.renew(bob)) == "granted"
        assert await code(made.renew(ana)) == "granted"


async def a_late_release_that_a_rollback_let_act_takes_no_later_start(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        first = await made.acquire("ana", request_id="r1")
        made.buries = False
        copy = made.copy()
        made.later(5)
        second = await made.acquire("ana", request_id="r2")
        made.roll_back(copy)
        await made.release(first)
        assert await code(made.renew(second)) == "granted"
        assert await code(made.renew(first)) == "lease_gone released"


async def leftovers_count_against_nobody(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        old = [await made.acquire("xi"), await made.acquire("yu")]
        copy = made.copy()
        for lease in old:
            await made.release(lease)
        ana, bob = await made.acquire("ana"), await made.acquire("bob")
        made.roll_back(copy)
        assert await code(made.renew(ana)) == "granted"
        assert await code(made.renew(bob)) == "granted"


async def a_receipt_that_ran_out_confirms_nothing(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        copy = made.copy()
        made.at(ana.expires_ms - DELTA + 1)
        made.roll_back(copy)
        assert await code(made.renew(ana)) == "learning"


async def no_more_are_confirmed_than_there_were_seats(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        made.buries = False  # SQL is away: the seat stays taken, and the receipt could come back
        ana, bob = await made.acquire("ana"), await made.acquire("bob")
        await made.release(bob)
        assert await code(made.acquire("cy")) == "no_seat"
        made.later(TTL + Q)
        ana2, cy = await made.acquire("ana"), await made.acquire("cy")
        made.lose()
        assert [await code(made.renew(lease)) for lease in (ana2, cy)] == ["granted", "granted"]
        assert await code(made.renew(ana)) == "lease_gone expired"


async def a_policy_of_another_epoch_is_unknown(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        copy = made.copy()
        made.change(
            tariff=Tariff.AGENT, ended_version=made.policy.version + 1, ended_reason="tariff_switched"
        )
        made.roll_back(copy)
        assert await code(made.renew(ana)) == "lease_gone tariff_switched"


async def a_switch_there_and_back_ends_the_leases_of_before(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        for tariff in (Tariff.AGENT, Tariff.TEAM):
            made.change(tariff=tariff, ended_version=made.policy.version + 1, ended_reason="tariff_switched")
        made.lose()
        assert await code(made.renew(ana)) == "lease_gone tariff_switched"


async def the_later_start_wins(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        first = await made.acquire("ana", "desk-1")
        copy = made.copy()
        made.later(5)
        second = await made.acquire("ana", "desk-2", takeover=True)
        for back in (lambda: made.roll_back(copy), made.lose):
            back()
            assert await code(made.renew(second)) == "granted"
            assert await code(made.renew(first)) == "lease_gone taken_over"


async def a_release_while_learning_is_final(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        made.buries = False
        made.lose()
        assert await code(made.release(ana)) == "granted"
        assert await code(made.renew(ana)) == "lease_gone released"


async def a_release_that_was_lost_on_its_way_is_told_once(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        earlier = await made.acquire("ana", request_id="r1")
        ana = await made.acquire("ana", request_id="r2")
        bob = await made.acquire("bob")
        made.lose()
        # Its tombstone was in SQL when the store was lost, before the script ran.
        made.tombstones["ana"] = Tombstone("ana", ana.start_ms, "released")
        made.tombstones["bob"] = Tombstone("bob", bob.start_ms, "revoked")
        for lease in (earlier, ana, ana, bob):
            made.later(5)
            await made.release(lease)
            assert await code(made.renew(lease)) != "granted"
        (ended,) = await made.reads.events(0, "0-0", 10)
        assert (ended.kind, ended.lease, ended.reason) == ("ended", ana.lease, "released")


async def a_service_user_is_learnt_outside_of_the_cap(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        made.change(bindings={"vendor": ("service",)})
        vendor, ana, bob = [await made.acquire(user) for user in ("vendor", "ana", "bob")]
        made.lose()
        for lease in (vendor, ana, bob):
            assert await code(made.renew(lease)) == "granted"
        made.lose()
        made.change(bindings={})
        assert await code(made.renew(vendor)) == "lease_gone revoked"


async def a_new_tenant_does_not_learn(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        assert await code(made.acquire("ana")) == "granted"
        assert (await made.seats.fullness("acme")).learns_until_ms == 0


async def events_of_epochs_tell_one_story(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        made.lose()
        made.later(7)
        await made.renew(ana)
        (adopted,) = await made.reads.events(0, "0-0", 10)
        assert (adopted.kind, adopted.lease, adopted.user, adopted.epoch, adopted.seq) == (
            "adopted",
            ana.lease,
            "ana",
            2,
            1,
        )
        assert adopted.at_ms == made.now


async def a_policy_of_before_the_loss_ends_no_learning(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        await made.acquire("ana")
        made.change()
        read_before = replace(made.policy, epoch=made.epoch)
        made.lose()
        assert await code(made.seats.put_policy(read_before)) == "store_unavailable"
        assert await code(made.acquire("cy")) == "learning"


async def a_change_while_learning_forgets_no_cap(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        made.change(cap=1)
        ana = await made.acquire("ana")
        made.change(cap=2)
        await made.project("acme")
        bob = await made.acquire("bob")
        made.change(cap=1)
        made.lose()
        assert await code(made.renew(bob)) == "granted"
        made.change()
        await made.project("acme")
        assert await code(made.renew(ana)) == "granted"


async def a_client_that_was_taken_over_is_waited_for(valkey: ValkeyServer) -> None:
    for presents_it in (True, False):
        async with house(valkey) as made:
            made.change(cap=1)
            first = await made.acquire("ana", "desk-1")
            second = await made.acquire("ana", "desk-2", takeover=True)
            made.lose()
            learns_until = made.now + WINDOW
            first = await made.renew(first)
            made.later(57_000)
            first = await made.renew(first)
            if presents_it:
                await made.renew(second)
            await made.release(second)
            made.at(learns_until)
            assert await code(made.acquire("bob")) == "no_seat"
            made.at(first.expires_ms + Q)
            assert await code(made.acquire("bob")) == "granted"
        with valkey.client() as client:
            client.flushall()


async def a_late_release_takes_nobody_from_the_confirmed(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        first = await made.acquire("ana", request_id="r1")
        second = await made.acquire("ana", request_id="r2")
        made.lose()
        await made.renew(second)
        await made.release(first)
        confirmed = made.reads.tenant_keys(0, "acme")[TENANT_KEYS.index("c")]
        assert made.client.smembers(confirmed) == {b"ana"}


async def an_addon_is_not_refused_while_its_lease_is_in_doubt(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        made.change(bindings={"ana": ("ocr",)})
        ana = await made.acquire("ana")
        copy = made.copy()
        made.later(TTL - DELTA - 1)
        ana = await made.renew(ana)
        for back in (lambda: made.roll_back(copy), made.lose):
            back()
            made.later(DELTA + Q + 1)  # what the copy knows of the lease has run out
            asked = made.seats.addon_user(Caller("acme", KEY), ana.lease, "ocr")
            assert await code(asked) == "learning"
            await made.renew(ana)
            assert await made.seats.addon_user(Caller("acme", KEY), ana.lease, "ocr") == "ana"


async def what_came_back_is_swept_however_late_its_tenant_is_known(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        await made.acquire("ana")
        made.roll_back(made.copy())
        await made.seats.reachable()
        await made.batcher.submit("sweep", ("acme", "acme", 256))  # nobody knows the tenant yet
        made.later(2 * WINDOW)
        await made.project("acme")
        assert await made.reads.due(0, made.now, 10) == ["acme"]


RULES = [
    a_holder_keeps_its_seat_and_nobody_gets_one,
    a_released_lease_does_not_come_back,
    a_revoked_lease_does_not_come_back,
    a_lease_revoked_by_force_while_learning_is_not_adopted_again,
    a_lowered_cap_refuses_no_holder,
    a_cap_that_rose_and_fell_refuses_no_holder,
    a_late_release_that_a_rollback_let_act_takes_no_later_start,
    leftovers_count_against_nobody,
    a_receipt_that_ran_out_confirms_nothing,
    no_more_are_confirmed_than_there_were_seats,
    a_policy_of_another_epoch_is_unknown,
    a_switch_there_and_back_ends_the_leases_of_before,
    the_later_start_wins,
    a_release_while_learning_is_final,
    a_release_that_was_lost_on_its_way_is_told_once,
    a_service_user_is_learnt_outside_of_the_cap,
    a_new_tenant_does_not_learn,
    events_of_epochs_tell_one_story,
    a_policy_of_before_the_loss_ends_no_learning,
    a_change_while_learning_forgets_no_cap,
    a_client_that_was_taken_over_is_waited_for,
    a_late_release_takes_nobody_from_the_confirmed,
    an_addon_is_not_refused_while_its_lease_is_in_doubt,
    what_came_back_is_swept_however_late_its_tenant_is_known,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_rule(rule: Any, valkey: ValkeyServer) -> None:
    await rule(valkey)


def test_every_script_carries_the_identity() -> None:
    assert all(b"local function identity()" in text for text in SCRIPTS.values())
