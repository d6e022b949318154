"""The primary of a watched set is found anew for each connection, and an earlier one answers nothing more."""

import asyncio
import time

import pytest

from seatd.flows.failover import Failovers, follow_for_ever
from seatd.seats.primary import SecurePrimaryConnection
from seatd.seats.store import Store, StoreAwayError, StoreOptions, UnopenedError, connect, watchers
from tests.sentinels import SERVICE, Node, Sentinels
from tests.valkey import ValkeyServer

OPTIONS = StoreOptions(q_ms=4_000, w_ms=4_000)
LOOK = ("inspect", [("", "status")])


def store_of(sentinels: Sentinels) -> Store:
    return Store(connect(sentinels.url, OPTIONS), OPTIONS)


async def answering(store: Store, what, seconds: float = 15):
    """Ask again while the store is away."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await what()
        except StoreAwayError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def epoch_of(store: Store) -> int:
    """Ask the scripts: the epoch in which they answered, 0 where none is open."""
    (outcome,) = await store.run(0, [LOOK])
    if isinstance(outcome, StoreAwayError):
        raise outcome
    return 0 if isinstance(outcome, UnopenedError) else outcome.epoch


async def test_a_primary_that_comes_back_is_not_the_one_that_was_known() -> None:
    with Sentinels(replicas=1, lag_s=0) as sentinels:
        store = store_of(sentinels)
        await store.open_epoch(0, 0, 1)
        first, _ = await asyncio.to_thread(sentinels.fail_over, Node.pause)
        assert await answering(store, lambda: epoch_of(store)) == 0  # a copy, on another node
        await asyncio.to_thread(sentinels.bring_back, first)
        _, new = await asyncio.to_thread(sentinels.fail_over)
        assert new is first  # in the same run as ever, and with what the other one had been told
        assert await answering(store, lambda: epoch_of(store)) == 0
        assert (await store.open_epoch(0, 1, 2)).epoch == 2
        assert await epoch_of(store) == 2
        await store.close()


async def test_passwords_of_stores_and_sentinels_are_told_apart() -> None:
    with Sentinels(replicas=1, passwords=("of-nodes", "of-sentinels")) as sentinels:
        url = f"redis+sentinel://:of-nodes@{sentinels.places}/{SERVICE}?sentinel_password="
        store = Store(connect(f"{url}of-sentinels", OPTIONS), OPTIONS)
        assert await store.now_ms() > 0
        assert await store.longest_alone_ms() == 2_000
        assert len(await watchers(f"{url}of-sentinels", OPTIONS).nodes()) == 2
        await store.close()
        for wrong in (f"{url}wrong", f"{url}of-sentinels".replace("of-nodes", "wrong")):
            store = Store(connect(wrong, OPTIONS), OPTIONS)
            with pytest.raises(StoreAwayError) as refused:
                await store.now_ms()
            assert "wrong" not in str(refused.value)
            await store.close()


def test_tls_is_spoken_to_both_unless_told_otherwise() -> None:
    url = "redis+sentinel://h1/seats?ssl=true&ssl_ca_certs=/ca.pem&ssl_check_hostname=false"
    connection = watchers(url, OPTIONS).connection_to_primary()
    assert isinstance(connection, SecurePrimaryConnection)
    assert (connection.ca_certs, connection.check_hostname) == ("/ca.pem", False)
    plain = watchers("redis+sentinel://h1/seats?sentinel_ssl=true", OPTIONS).connection_to_primary()
    assert not isinstance(plain, SecurePrimaryConnection)


async def test_an_old_primary_that_is_reached_answers_nothing_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Sentinels(lag_s=0) as sentinels:  # it would write on for as long as sentinels let it
        late, new, watch, reads = (store_of(sentinels) for _ in range(4))
        await late.open_epoch(0, 0, 1)
        assert await epoch_of(late) == (await reads.look(0)).epoch == 1  # connected to what is paused now
        old, _ = await asyncio.to_thread(sentinels.fail_over, Node.pause)
        await answering(new, lambda: new.open_epoch(0, 1, 2))
        old.go_on()
        nodes = Failovers(watch, watchers(sentinels.url, OPTIONS), OPTIONS, [0])
        loops = [
            asyncio.create_task(nodes.close_earlier_for_ever()),
            asyncio.create_task(follow_for_ever(watchers(sentinels.url, OPTIONS), [watch, reads])),
        ]
        await asyncio.sleep(1.5)
        assert old.is_primary
        assert await epoch_of(late) == 0
        assert await epoch_of(late) == 2  # on a connection to the new one
        assert await epoch_of(new) == (await reads.look(0)).epoch == 2
        for loop in loops:
            loop.cancel()
        assert "min-replicas-to-write is not set" in capsys.readouterr().out
        for store in (late, new, watch, reads):
            await store.close()


async def test_a_user_who_may_not_read_the_configuration_closes_all_the_same(
    valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(connect(valkey.url, OPTIONS), OPTIONS)
    await store.open_epoch(0, 0, 1)
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "plain", "on", "nopass", "~*", "+@all", "-config")
    plain = Store(connect(f"{valkey.url}?username=plain&password=any", OPTIONS), OPTIONS)
    nodes = Failovers(plain, watchers("redis+sentinel://127.0.0.1:1/seats", OPTIONS), OPTIONS, [0])
    assert await nodes._recent() == {0: 1}
    assert "cannot be read" in capsys.readouterr().out
    for one in (store, plain):
        await one.close()
    with valkey.client() as client:
        client.execute_command("ACL", "DELUSER", "plain")
