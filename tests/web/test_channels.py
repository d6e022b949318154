"""Who is told what: leases and tenants to sockets, the silent, the bounds.  Sockets here only note what they are told."""

import asyncio
from typing import Any

import msgpack
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seatd.model import Refusal
from seatd.seats.model import Caller
from seatd.seats.news import LeaseEnded, PolicyChanged, read
from seatd.web import channels as under_test
from seatd.web.channels import PING_AFTER_S, Channels


class Noted:
    """A socket that notes what it is told."""

    def __init__(self, tenant: str = "t", key: str = "k") -> None:
        self.caller = Caller(tenant, key)
        self.heard_s = 0.0
        self.leases: dict[str, None] = {}
        self.said: list[Any] = []
        self.ended: list[int] = []
        self.aborted = False

    def send(self, message: bytes) -> None:
        self.said.append(message if message[0] != 0x82 else msgpack.unpackb(message[2:]))

    def end(self, code: int, why: str) -> None:
        self.ended.append(code)

    def abort(self) -> None:
        self.aborted = True


async def open_to_all(_: Caller) -> None:
    return None


def channels() -> Channels:
    return Channels(open_to_all, lambda: (1,))


class Holding(RuleBasedStateMachine):
    """Who holds which lease, beside a plain map of lease to socket."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = channels()
        self.here: list[Noted] = []
        self.holder: dict[str, Noted] = {}

    @rule()
    def enter(self):
        socket = Noted()
        self.channels.enter(socket)
        self.here.append(socket)

    @rule(which=st.integers(0, 50), lease=st.sampled_from("abcdef"))
    def hold(self, which: int, lease: str):
        if self.here:
            socket = self.here[which % len(self.here)]
            self.channels.hold(socket, lease)
            self.holder[lease] = socket

    @rule(which=st.integers(0, 50), lease=st.sampled_from("abcdef"))
    def let_go(self, which: int, lease: str):
        if self.here:
            socket = self.here[which % len(self.here)]
            self.channels.let_go(socket, lease)
            if self.holder.get(lease) is socket:
                del self.holder[lease]

    @rule(which=st.integers(0, 50))
    def leave(self, which: int):
        if self.here:
            socket = self.here.pop(which % len(self.here))
            self.channels.leave(socket)
            self.holder = {lease: holder for lease, holder in self.holder.items() if holder is not socket}

    @rule(lease=st.sampled_from("abcdef"), tenant=st.sampled_from(["t", "other"]))
    def ended(self, lease: str, tenant: str):
        before = {id(socket): len(socket.said) for socket in self.here}
        self.channels.tell(LeaseEnded(tenant, lease, "revoked"))
        told = [socket for socket in self.here if len(socket.said) > before[id(socket)]]
        holder = self.holder.pop(lease, None) if tenant == "t" else None
        assert told == ([holder] if holder else [])

    @invariant()
    def agrees(self):
        assert len(self.channels) == len(self.here)
        for socket in self.here:
            mine = {lease for lease, holder in self.holder.items() if holder is socket}
            assert set(socket.leases) == mine


TestHolding = Holding.TestCase
TestHolding.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_no_more_leases_are_noted_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(under_test, "LEASES_MAX", 2)
    here, socket = channels(), Noted()
    here.enter(socket)
    for lease in "abc":
        here.hold(socket, lease)
    assert list(socket.leases) == ["a", "b"]
    here.let_go(socket, "a")
    here.hold(socket, "c")
    assert list(socket.leases) == ["b", "c"]


def test_no_more_sockets_are_taken_in_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(under_test, "SOCKETS_MAX", 1)
    here = channels()
    here.refuse_more()
    here.enter(Noted())
    with pytest.raises(Refusal) as caught:
        here.refuse_more()
    assert caught.value.code == "busy"
    assert caught.value.fields["retry_after_ms"] > 0


def test_the_silent_are_asked_and_the_gone_are_dropped():
    here, lively, silent, gone = channels(), Noted(), Noted(), Noted()
    for socket in (lively, silent, gone):
        here.enter(socket)
    now_s = 1_000.0
    lively.heard_s, silent.heard_s, gone.heard_s = now_s - 1, now_s - PING_AFTER_S, now_s - 2 * PING_AFTER_S
    here._ask_the_silent(now_s)
    assert (lively.said, silent.said, gone.said) == ([], [b"\x89\x00"], [])
    assert (lively.aborted, silent.aborted, gone.aborted) == (False, False, True)


async def test_a_policy_that_ended_leases_asks_its_tenant_alone_and_checks_each_key_once():
    asked: list[Caller] = []

    async def admit(caller: Caller) -> None:
        asked.append(caller)
        if caller.key_hash == "old":
            raise Refusal("unauthorized")
        if caller.key_hash == "away":
            raise Refusal("store_unavailable", retry_after_ms=1)

    here = Channels(admit, lambda: (1,))
    sockets = [Noted("t", "new"), Noted("t", "old"), Noted("t", "old"), Noted("t", "away"), Noted("u", "old")]
    for socket in sockets:
        here.enter(socket)
    here.tell(PolicyChanged("t", ended=True))
    await asyncio.sleep(0.01)
    assert [len(socket.said) for socket in sockets] == [1, 1, 1, 1, 0]
    assert [socket.ended for socket in sockets] == [[], [4401], [4401], [], []]
    assert sorted(caller.key_hash for caller in asked) == ["away", "new", "old"]
    here.tell(PolicyChanged("t", ended=False))
    await asyncio.sleep(0.01)
    assert [len(socket.said) for socket in sockets] == [1, 1, 1, 1, 0]


async def test_everybody_is_asked_to_renew_where_an_epoch_was_opened(monkeypatch):
    monkeypatch.setattr(under_test, "LOOK_EVERY_S", 0.01)
    epochs = [(0, 3)]
    here = Channels(open_to_all, lambda: epochs[0])
    sockets = [Noted("t"), Noted("u")]
    for socket in sockets:
        here.enter(socket)
        socket.heard_s = 1e12
    here.hold(sockets[0], "a")
    looking = asyncio.create_task(here.look_for_ever())
    await asyncio.sleep(0.05)
    assert sockets[0].said == []
    epochs[0] = (1, 3)  # the first that is known is no news
    await asyncio.sleep(0.05)
    assert sockets[0].said == []
    epochs[0] = (1, 4)
    await asyncio.sleep(0.05)
    looking.cancel()
    assert [[push["push"] for push in socket.said] for socket in sockets] == [["renew"], ["renew"]]


def test_renewals_are_spread_over_as_long_as_so_many_take():
    assert under_test._spread_ms(1, 4_000, (1_000, 20_000)) == 1_000
    assert under_test._spread_ms(40_000, 4_000, (1_000, 20_000)) == 10_000
    assert under_test._spread_ms(10**9, 4_000, (1_000, 20_000)) == 20_000


@pytest.mark.parametrize(
    ("said", "news"),
    [
        (["ended", "t", "l", "revoked"], LeaseEnded("t", "l", "revoked")),
        (["policy", "t", 1], PolicyChanged("t", ended=True)),
        (["policy", "t", 0], PolicyChanged("t", ended=False)),
        (["weather", "fine"], None),
        (["ended", "t"], None),
        ([], None),
        (7, None),
    ],
)
def test_news_is_read_or_passed_over(said, news):
    assert read(msgpack.packb(said)) == news
    assert read(b"\xc1" + msgpack.packb(said)) is None
