"""What ends a lease names the epoch that SQL knew: a store in another one, an old primary, does not take it for done."""

from dataclasses import replace

from seatd.seats.layout import policy_operation
from tests.seats.house import KEY, house
from tests.seats.world import Call
from tests.valkey import ValkeyServer


async def test_a_store_of_another_epoch_refuses_and_changes_nothing(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        release = ("acme", KEY, ana.lease, "ana", ana.start_ms, 2)
        revoke = ("acme", ana.lease, "", "", 0, ana.start_ms, 0, 2)
        smaller = policy_operation(replace(made.policy, version=9, cap=0, epoch=2))
        calls: list[Call] = [("release", [release]), ("revoke", [revoke]), ("project", [smaller])]
        assert await made.reads.run(0, calls) == [[["earlier", 1]]] * 3
        assert (await made.renew(ana)).lease == ana.lease
        assert (await made.seats.fullness("acme")).capacity == 2


async def test_an_end_is_written_again_where_an_epoch_was_opened_meanwhile(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana = await made.acquire("ana")
        told = []

        async def bury(*_: object) -> int:
            told.append(made.epoch)
            if len(told) == 1:  # it was committed, and then the store was lost
                made.lose()
            return told[-1]

        made.seats._bury = bury
        await made.release(ana)
        assert told == [1, 2]


async def test_a_number_that_was_taken_for_no_epoch_ends_in_another(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        ana, bob = await made.acquire("ana"), await made.acquire("bob")
        made.epoch += 1  # whoever took it died, and the store goes on in its epoch
        assert await made.release(ana)
        assert (await made.reads.look(0)).epoch == made.epoch == 3
        made.epoch += 1
        await made.renew(bob)
        assert (await made.seats.revoke("acme", bob.lease))[0] == "bob"
        assert (await made.reads.look(0)).epoch == made.epoch == 5
