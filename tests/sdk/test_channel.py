"""The conversation over one socket, without I/O: against a server that reorders, repeats and loses."""

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from seatd_client import wire
from seatd_client.channel import ECHO_MS, OPEN_MAX, QUIET_MS, Beat, Channel, ChannelLost, Settled
from seatd_client.errors import ConnectionFailed, InvalidReply, LeaseGone, NoSeat, ServerFailed, Transient
from seatd_client.frames import LEASES_MAX, Push
from seatd_client.redial import NoChannel, Pauses, Redial

from tests.sdk.vectors import named

WISH = wire.Acquire("ana", "desk-7", "r_1")
GRANTED = named("channel", "acquired")["json"]["ok"]
NO_SEAT = named("channel", "refused, in a line")["json"]["error"]
GONE = named("channel", "refused to renew")["json"]["error"]


def hear(channel, now, raw) -> Any:
    return channel.receive(now, raw)


def renewed(lease):
    return {**named("channel", "renewed one")["json"]["ok"], "lease": lease}


def ok(number, given):
    return msgpack.packb({"id": number, "ok": given})


def error(number, problem):
    return msgpack.packb({"id": number, "error": problem})


def test_an_acquire_is_granted_or_refused():
    channel = Channel(0)
    first, _ = channel.ask_acquire(0, WISH)
    second, _ = channel.ask_acquire(0, WISH)
    [settled] = hear(channel, 5, error(second, NO_SEAT))
    assert (settled.number, type(settled.result)) == (second, NoSeat)
    [settled] = hear(channel, 5, ok(first, GRANTED))
    assert settled.number == first
    assert isinstance(settled.result, wire.Grant)
    number, _ = channel.ask_acquire(0, WISH)
    [settled] = hear(channel, 5, ok(number, {**GRANTED, "user": "bea"}))
    assert isinstance(settled.result, InvalidReply)


def test_leaving_settles_the_acquire_that_was_not_answered():
    channel = Channel(0)
    acquire, _ = channel.ask_acquire(0, WISH)
    leave, _ = channel.ask_leave(0, acquire)
    left, unanswered = hear(channel, 5, ok(leave, {}))
    assert left == Settled(leave, None)
    assert unanswered.number == acquire
    assert isinstance(unanswered.result, ConnectionFailed)
    assert hear(channel, 6, ok(acquire, GRANTED)) == []


def test_leaving_changes_nothing_of_an_acquire_that_was_answered():
    channel = Channel(0)
    acquire, _ = channel.ask_acquire(0, WISH)
    leave, _ = channel.ask_leave(0, acquire)
    [granted] = hear(channel, 5, ok(acquire, GRANTED))
    assert isinstance(granted.result, wire.Grant)
    assert hear(channel, 5, ok(leave, {})) == [Settled(leave, None)]


def test_a_push_is_passed_on():
    pushed = named("channel", "revoked")
    [push] = Channel(0).receive(1, bytes.fromhex(pushed["msgpack"]))
    assert push == Push("revoked", lease=pushed["json"]["lease"], reason="revoked")


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"{}", msgpack.packb([1]), msgpack.packb({"id": 1})])
def test_what_is_no_frame_changes_nothing(raw):
    channel = Channel(0)
    channel.ask_acquire(0, WISH)
    before = dict(vars(channel))
    with pytest.raises(InvalidReply):
        hear(channel, 5, raw)
    assert vars(channel) == before


def test_only_so_many_leases_go_into_a_frame():
    for leases in ([], [("l", "r")] * (LEASES_MAX + 1)):
        with pytest.raises(ValueError, match="leases"):
            Channel(0).ask_renew(0, leases)


def test_a_socket_that_is_full_is_not_used():
    channel = Channel(0)
    for _ in range(OPEN_MAX):
        number, _ = channel.ask_release(0, "l_1", "r")
    assert not channel.usable(0)
    hear(channel, 1, ok(number, {}))
    assert channel.usable(1)


def test_silence_is_asked_about_and_then_death():
    channel = Channel(0)
    assert channel.wake_ms() == QUIET_MS
    assert channel.beat(QUIET_MS - 1) is Beat.WAIT
    assert channel.beat(QUIET_MS) is Beat.PING
    assert not channel.usable(QUIET_MS), "until it has answered"
    assert channel.beat(QUIET_MS + ECHO_MS - 1) is Beat.WAIT
    channel.sound(QUIET_MS + 10)
    assert channel.usable(QUIET_MS + 10)
    assert not channel.usable(2 * QUIET_MS + 10), "the machine was suspended, and the timer with it"
    assert channel.beat(2 * QUIET_MS + 10) is Beat.PING
    assert channel.beat(2 * QUIET_MS + 10 + ECHO_MS) is Beat.DEAD


def test_a_request_given_up_in_silence_puts_the_socket_in_doubt():
    channel = Channel(0)
    number, _ = channel.ask_release(10, "l_1", "r")
    channel.give_up(number)
    assert not channel.usable(11)
    assert channel.beat(1_000) is Beat.PING
    channel.sound(1_001)
    assert channel.usable(1_001)
    number, _ = channel.ask_release(2_000, "l_1", "r")
    hear(channel, 2_001, msgpack.packb({"push": "renew"}))
    channel.give_up(number)
    assert channel.usable(2_002), "it is slow, but there"


class Conversation(RuleBasedStateMachine):
    """Requests and a server: each request is settled once, by its own answer, or by the loss."""

    @initialize()
    def start(self):
        self.now = 0
        self.channel = Channel(0)
        self.open: dict[int, tuple[str, Any]] = {}
        self.given_up: set[int] = set()
        self.answered: list[bytes] = []
        self.numbers: list[int] = []
        self.over = False

    def asked(self, number, op, about):
        assert number not in self.numbers, "no id twice"
        self.numbers.append(number)
        self.open[number] = (op, about)

    @rule(ms=st.integers(0, 60_000))
    def time_passes(self, ms):
        self.now += ms

    @precondition(lambda self: not self.over)
    @rule()
    def acquire(self):
        number, frame = self.channel.ask_acquire(self.now, WISH)
        assert msgpack.unpackb(frame) == {"id": number, "op": "acquire", **WISH.body()}
        self.asked(number, "acquire", None)

    @precondition(lambda self: not self.over)
    @rule(count=st.integers(1, 4))
    def renew(self, count):
        leases = [f"l_{at}" for at in range(count)]
        number, _ = self.channel.ask_renew(self.now, [(lease, "r") for lease in leases])
        self.asked(number, "renew", leases)

    @precondition(lambda self: not self.over and any(op == "acquire" for op, _ in self.open.values()))
    @rule(data=st.data())
    def leave(self, data):
        waiting = sorted(number for number, (op, _) in self.open.items() if op == "acquire")
        of = data.draw(st.sampled_from(waiting))
        number, _ = self.channel.ask_leave(self.now, of)
        self.asked(number, "leave", of)

    @precondition(lambda self: self.open and not self.over)
    @rule(data=st.data(), refused=st.booleans())
    def answer(self, data, refused):
        number = data.draw(st.sampled_from(sorted(self.open)))
        op, about = self.open.pop(number)
        expected = {number}
        if op == "leave" and not refused and about in self.open:
            del self.open[about]
            expected.add(about)
        if op == "leave" and refused:
            refused = False
            expected |= {about} & set(self.open)
            self.open.pop(about, None)
        given = {"acquire": GRANTED, "leave": {}}.get(op)
        if op == "renew":
            given = [renewed(lease) for lease in about]
            given = given[0] if len(about) == 1 else given
        frame = error(number, GONE) if refused else ok(number, given)
        self.answered.append(frame)
        heard = hear(self.channel, self.now, frame)
        assert {one.number for one in heard} == expected
        result = next(one.result for one in heard if one.number == number)
        if refused:
            assert isinstance(result, LeaseGone)
        elif op == "acquire":
            assert result.lease == GRANTED["lease"]
        elif op == "renew":
            assert [one.lease for one in result] == about
        assert self.channel.usable(self.now), "whoever has just spoken is there"

    @precondition(lambda self: self.answered and not self.over)
    @rule(data=st.data())
    def repeat_an_answer(self, data):
        assert hear(self.channel, self.now, data.draw(st.sampled_from(self.answered))) == []

    @precondition(lambda self: not self.over)
    @rule(ahead=st.integers(1, 5))
    def answer_what_was_never_asked(self, ahead):
        assert hear(self.channel, self.now, ok(len(self.numbers) + ahead, GRANTED)) == []

    @precondition(lambda self: self.open and not self.over)
    @rule(data=st.data())
    def give_up(self, data):
        number = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[number]
        self.channel.give_up(number)
        assert hear(self.channel, self.now, ok(number, {})) == []

    @precondition(lambda self: not self.over)
    @rule()
    def beat(self):
        due = self.now >= self.channel.wake_ms()
        beat = self.channel.beat(self.now)
        assert (beat is Beat.WAIT) == (not due)
        if beat is not Beat.WAIT:
            assert not self.channel.usable(self.now)

    @precondition(lambda self: not self.over)
    @rule(really=st.integers(0, 9))
    def lose(self, really):
        if really:
            return
        lost = self.channel.lost()
        assert {one.number for one in lost} == set(self.open)
        assert all(isinstance(one.result, ChannelLost) for one in lost)
        assert self.channel.lost() == []
        self.open, self.over = {}, True

    @invariant()
    def knows_what_is_open(self):
        if hasattr(self, "channel"):
            assert set(self.channel._open) == set(self.open)


Conversation.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestConversation = Conversation.TestCase


@given(seed=st.integers(0, 2**32), lasted_ms=st.lists(st.integers(0, 200_000), max_size=30))
def test_pauses_are_bounded_grow_and_start_anew_after_a_socket_that_lasted(seed, lasted_ms):
    redial, now, failures = Redial(random.Random(seed)), 0, 0
    for lasted in lasted_ms:
        redial.opened(now)
        now += lasted
        failures = 0 if lasted >= Pauses().steady_ms else failures
        pause = redial.lost_ms(now)
        assert 0 <= pause <= min(1_000 << failures, 60_000)
        failures += 1


def test_clients_that_lose_their_sockets_together_come_back_apart():
    pauses = sorted(Redial(random.Random(seed)).lost_ms(0) for seed in range(1_000))
    assert pauses[100] > 50
    assert pauses[900] < 950
    drained = [Redial(random.Random(seed)).drained_ms(10_000) for seed in range(1_000)]
    assert max(drained) <= 8_000
    assert max(drained) - min(drained) > 7_000


def test_where_there_is_no_channel_it_is_looked_for_from_time_to_time_only():
    redial = Redial(random.Random(7))
    pauses = [redial.failed_ms(NoChannel()) for _ in range(20)]
    assert 15_000 <= pauses[0] <= 30_000
    assert all(pause <= 600_000 for pause in pauses)
    assert pauses[-1] >= 300_000
    redial.opened(0)
    assert redial.failed_ms(NoChannel()) <= 30_000


def test_a_server_that_says_when_is_heeded():
    busy = ServerFailed(status=503, fields={"retry_after_ms": 5_000})
    assert isinstance(busy, Transient)
    assert 5_000 <= Redial(random.Random(7)).failed_ms(busy) <= 6_000
