"""The service: refusals with their fields, the two hooks, denials, a full stream, the sweeper."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from seatd.model import KeyGrant, Refusal, Scope, Tariff, UsageEvent
from seatd.seats.model import Acquire, Caller, Lease
from tests.seats.plane import KEY, Plane, plane, policy
from tests.valkey import ValkeyServer


async def refusal(awaitable) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await awaitable
    return caught.value


async def events(made: Plane, *kinds: str) -> list[UsageEvent]:
    return [event for event in await made.store.events(0, "0-0", 10_000) if event.kind in kinds]


async def test_200_at_once_for_50_seats(valkey: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        planes = [
            await stack.enter_async_context(plane(valkey, policy(cap=50, ttl_ms=60_000))) for _ in range(4)
        ]
        answers = await asyncio.gather(
            *(planes[i % 4].acquire(f"user{i}", request_id=f"r{i}") for i in range(200)),
            return_exceptions=True,
        )
        leases = [answer for answer in answers if isinstance(answer, Lease)]
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        assert len(leases) == len({lease.lease for lease in leases}) == 50
        assert len(refusals) == 150
        first = min(lease.expires_ms for lease in leases)
        for refused in refusals:
            assert (refused.code, refused.status) == ("no_seat", 409)
            assert {k: refused.fields[k] for k in ("capacity", "in_use", "waiting")} == {
                "capacity": 50, "in_use": 50, "waiting": 0,
            }  # fmt: skip
            assert refused.fields["next_expiry_ms"] == first
            assert 0 < refused.fields["retry_after_ms"] <= 60_000
        assert (await planes[0].seats.fullness("acme")).in_use == 50
        await asyncio.gather(*(planes[i % 4].release(lease) for i, lease in enumerate(leases)))
        assert (await planes[1].seats.fullness("acme")).in_use == 0
        told = Counter((event.kind, event.lease) for event in await events(planes[0], "started", "ended"))
        assert told == Counter((kind, lease.lease) for lease in leases for kind in ("started", "ended"))
        assert len(await events(planes[0], "denied")) == 150


async def test_a_seat_not_renewed_is_free_after_ttl_and_q(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=1, ttl_ms=2_000)) as made:
        lease = await made.acquire("ana")
        assert (await refusal(made.acquire("bob"))).code == "no_seat"
        await asyncio.sleep((lease.expires_ms - await made.store.now_ms()) / 1000 + 0.1)
        assert (await refusal(made.acquire("bob"))).code == "no_seat", "Q has not passed"
        await asyncio.sleep(0.45)
        later = await made.acquire("bob")  # nobody swept
        assert later.start_ms >= lease.expires_ms + 500
        (ended,) = await events(made, "ended")
        assert (ended.lease, ended.at_ms, ended.reason) == (lease.lease, lease.expires_ms, "expired")


async def test_the_sweeper_ends_what_ran_out(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=300, ttl_ms=2_000)) as made:
        leases = await asyncio.gather(*(made.acquire(f"user{i}") for i in range(300)))
        assert not await made.upkeep.sweep_once(made.batcher)
        await asyncio.sleep(2.6)
        assert await made.upkeep.sweep_once(made.batcher), "300 leases are more than one step ends"
        assert not await made.upkeep.sweep_once(made.batcher)
        ends = {event.lease: event.at_ms for event in await events(made, "ended")}
        assert ends == {lease.lease: lease.expires_ms for lease in leases}


async def test_the_same_request_id_gives_the_same_lease(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        copies = await asyncio.gather(*(made.acquire("ana", request_id="r1") for _ in range(20)))
        assert {(copy.lease, copy.start_ms) for copy in copies} == {(copies[0].lease, copies[0].start_ms)}
        assert sum(copy.created for copy in copies) == 1
        assert (
            await refusal(made.acquire("ana", request_id="r1", takeover=True))
        ).code == "request_id_reused"
        assert (
            await refusal(made.acquire("ana", request_id="r1", labels={"site": "x"}))
        ).code == "request_id_reused"
        await made.release(copies[0])
        gone = await refusal(made.acquire("ana", request_id="r1"))
        assert (gone.code, gone.fields) == ("lease_gone", {"reason": "released"})


async def test_a_tenant_that_the_store_does_not_know_is_projected_once(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=50)) as made:
        await asyncio.gather(*(made.acquire(f"user{i}") for i in range(50)))
        assert made.projected == ["acme"]
        assert made.opened == [0], "and its partition opened once"


async def test_a_tenant_that_nobody_knows_is_asked_for_once(valkey: ValkeyServer) -> None:
    async with plane(valkey) as made:
        answers = await asyncio.gather(*(refusal(made.acquire("ana", tenant="nobody")) for _ in range(20)))
        assert {answer.code for answer in answers} == {"unauthorized"}
        assert (await refusal(made.acquire("ana", tenant="nobody"))).code == "unauthorized"
        assert made.projected == ["nobody"]
        made.accounts["nobody"] = policy("nobody")
        await made.seats.put_policy(made.accounts["nobody"])
        assert (await made.acquire("ana", tenant="nobody")).created


async def test_a_cancelled_caller_does_not_stop_the_projection(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        waiting = [asyncio.create_task(made.acquire(f"user{i}")) for i in range(2)]
        while not made.projected:
            await asyncio.sleep(0)
        waiting[0].cancel()
        assert (await waiting[1]).created
        assert made.projected == ["acme"]


async def test_a_denial_is_told_once_a_user_and_reason(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=1, bindings={"cy": ("social",)})) as made:
        await made.acquire("ana")
        for _ in range(3):
            for user in ("bob", "cy"):
                await refusal(made.acquire(user))
            await refusal(made.acquire("bob", addons=("crm",)))
            await refusal(made.acquire("ana", "pc2"))
        told = [(event.user, event.reason, event.at_ms // 60_000) for event in await events(made, "denied")]
        assert len(told) == len(set(told))  # again only where the test runs over the end of a minute
        assert {(user, reason) for user, reason, _ in told} == {
            ("bob", "no_seat"), ("cy", "no_seat"), ("bob", "addon_not_named"), ("ana", "seat_elsewhere"),
        }  # fmt: skip


async def test_a_full_stream_stops_acquires_alone(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=10), stream_max=3) as made:
        leases = [await made.acquire(f"user{i}") for i in range(3)]
        full = await refusal(made.acquire("late"))
        assert (full.code, full.status) == ("store_unavailable", 503)
        assert full.fields["retry_after_ms"] > 0
        assert (await refusal(made.acquire("user0"))).code == "store_unavailable"
        renewed = await made.renew(leases[0])
        assert renewed.expires_ms >= leases[0].expires_ms
        assert await made.release(leases[1])
        assert [event.lease for event in await events(made, "ended")] == [leases[1].lease]
        assert (await refusal(made.acquire("late"))).code == "store_unavailable"
        (*_, last) = await events(made, "started", "ended")
        await made.store.trim(0, last)
        assert await made.store.backlog(0) == 0
        assert (await made.acquire("late")).created


async def test_a_takeover_moves_the_seat_and_its_floor_stays(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=1)) as made:
        old = await made.acquire("ana")
        elsewhere = await refusal(made.acquire("ana", "pc2"))
        assert (elsewhere.code, elsewhere.fields) == (
            "seat_elsewhere",
            {"client": "pc1", "since_ms": old.start_ms},
        )
        new = await made.acquire("ana", "pc2", takeover=True)
        assert new.lease != old.lease
        assert new.start_ms > old.start_ms
        assert (await refusal(made.renew(old))).fields == {"reason": "taken_over"}
        assert await made.release(new)
        assert (await refusal(made.acquire("bob"))).code == "no_seat"
        assert (await made.acquire("ana", "pc3")).created, "the seat that is kept is the user's own"


async def test_revoking_waits_for_the_client_and_forcing_does_not(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=1)) as made:
        lease = await made.acquire("ana")
        assert await made.seats.revoke("acme", lease.lease) == ("ana", lease.expires_ms + 500)
        assert (await refusal(made.renew(lease))).fields == {"reason": "revoked"}
        own = await refusal(made.acquire("ana"))
        assert own.code == "conflict"
        assert 0 < own.fields["retry_after_ms"] <= 2_500
        assert (await refusal(made.acquire("bob"))).code == "no_seat"
        assert await made.release(lease)
        second = await made.acquire("bob")
        await made.seats.revoke("acme", second.lease, force=True)
        assert (await made.acquire("ana")).created
        assert (await refusal(made.seats.revoke("acme", "nosuchlease"))).code == "not_found"


@pytest.mark.parametrize("force", [False, True])
async def test_a_revoked_user_may_not_sit_again_for_a_while(valkey: ValkeyServer, force: bool) -> None:
    async with plane(valkey, policy(cap=2, ttl_ms=60_000)) as made:
        lease = await made.acquire("ana")
        await made.seats.revoke("acme", lease.lease, force=force, hold_ms=800)
        held = await refusal(made.acquire("ana", "pc2", takeover=True))
        assert (held.code, held.fields["reason"]) == ("conflict", "revoked")
        await made.release(lease)
        held = await refusal(made.acquire("ana"))
        assert (held.code, held.fields["reason"]) == ("conflict", "revoked")
        assert 0 < held.fields["retry_after_ms"] <= 800
        assert (await made.acquire("bob")).created
        await asyncio.sleep(held.fields["retry_after_ms"] / 1000 + 0.01)
        assert (await made.acquire("ana")).created
        with valkey.client() as client:
            held_field = b"h ana"
            assert client.hexists("seatd:{p00}:x:acme", held_field)
            assert await made.upkeep.sweep_once(made.batcher) is False
            assert not client.hexists("seatd:{p00}:x:acme", held_field), "and then forgotten"


async def test_refusals_say_why(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(tariff=Tariff.AGENT, bindings={"ana": ("agent", "social")})) as made:
        assert (await refusal(made.acquire("bob"))).fields == {"product": "agent"}
        missing = await refusal(made.acquire("ana", addons=("crm",)))
        assert (missing.code, missing.fields) == ("addon_not_named", {"product": "crm"})
        lease = await made.acquire("ana")
        assert (lease.kind, lease.addons) == ("agent", ("social",))
        caller = Caller("acme", KEY)
        assert await made.seats.addon_user(caller, lease.lease, "social") == "ana"
        assert (await refusal(made.seats.addon_user(caller, lease.lease, "crm"))).fields == {"product": "crm"}
        assert (await refusal(made.seats.addon_user(caller, "nosuchlease", "crm"))).fields == {
            "reason": "unknown"
        }
        stranger = await refusal(made.seats.acquire(Caller("acme", "f" * 64), Acquire("ana", "pc1")))
        assert stranger.code == "unauthorized"
        keys = {KEY: KeyGrant("k1", Scope.TENANT_ADMIN)}
        await made.seats.put_policy(policy(version=2, tariff=Tariff.AGENT, keys=keys))
        assert (await refusal(made.renew(lease))).code == "forbidden"
        foreign = await refusal(made.seats.renew(Caller("beta", KEY), lease.lease, lease.receipt))
        assert foreign.code == "receipt_invalid"


@pytest.mark.parametrize(
    ("changes", "code", "fields", "lost"),
    [
        ({"suspended_since_ms": 17}, "suspended", {"since_ms": 17}, "suspended"),
        ({"trial_until_ms": 23}, "trial_expired", {"since_ms": 23}, "trial_expired"),
        ({"tariff": None, "no_tariff_since_ms": 29}, "no_tariff", {"since_ms": 29}, "contract_ended"),
        ({"tariff": Tariff.AGENT}, "not_named", {"product": "agent"}, "tariff_switched"),
    ],
)
async def test_a_tenant_that_may_not_work(valkey: ValkeyServer, changes, code, fields, lost) -> None:
    async with plane(valkey, policy()) as made:
        lease = await made.acquire("ana")
        assert await made.seats.put_policy(policy(version=2, **changes))
        assert not await made.seats.put_policy(policy(version=2))
        refused = await refusal(made.acquire("bob"))
        assert (refused.code, refused.fields) == (code, fields)
        assert (await refusal(made.renew(lease))).fields == {"reason": lost}
