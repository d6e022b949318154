"""A seat against a server whose clock drifts: messages delayed, lost and reordered, time told late."""

import contextlib
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from seatd_client.errors import ConnectionFailed, LeaseGone, RateLimited
from seatd_client.lease import IllegalEvent, Lease
from seatd_client.states import BELIEVING, TRANSITIONS, Event, State, Step

from tests.sdk.leases import CALLS, REPLIES, grant_of, image, renewal_of


class AgainstAServer(RuleBasedStateMachine):
    """A seat and the server that keeps it, on a clock that runs up to 1 % faster than the client's.

    Messages are delayed, lost and reordered; the machine is told of time late or not at all.  The
    seat must never be believed in once the server may give it away.
    """

    @initialize(drift=st.integers(-100, 100), seed=st.integers(0, 2**32))
    def start(self, drift, seed):
        self.rate = 10_000 + drift  # the server's ticks in ten thousand of the client's
        self.now = 1_000
        self.lease = Lease(random.Random(seed))
        self.expires = 0  # of the server, in its ticks times ten thousand
        self.outgoing: list[tuple[int, str, int]] = []
        self.answers: list[tuple[int, str, int]] = []
        self.stopped = False

    def server_now(self) -> int:
        return self.now * self.rate

    @rule(ms=st.integers(0, 4_000))
    def time_passes(self, ms):
        self.now += ms

    @rule(ms=st.integers(4_000, 400_000))
    def the_machine_sleeps(self, ms):
        self.now += ms

    @precondition(lambda self: self.lease.state in BELIEVING)
    @rule(ms=st.integers(1, 3))
    def time_passes_almost_to_the_deadline(self, ms):
        self.now = max(self.now, self.lease.deadline_ms - ms)

    @rule()
    def tick(self):
        was = self.lease.state
        fell = self.lease.tick(self.now)
        assert fell == (was in BELIEVING and self.lease.state is State.LOST)

    @rule()
    def act(self):
        self.lease.tick(self.now)
        step = self.lease.step(self.now)
        if step is Step.ACQUIRE:
            self.outgoing.append((self.lease.acquire_sent(self.now), "acquire", 0))
        elif step is Step.RENEW:
            self.outgoing.append((self.lease.renew_sent(self.now), "renew", 0))

    @precondition(lambda self: self.lease.state in BELIEVING)
    @rule()
    def renew_unasked(self):
        try:
            self.outgoing.append((self.lease.renew_sent(self.now), "renew", 0))
        except IllegalEvent:
            assert self.now >= self.lease.deadline_ms

    @precondition(lambda self: self.outgoing)
    @rule(data=st.data(), ttl_ms=st.sampled_from([2_000, 3_000, 300_000]))
    def the_server_serves(self, data, ttl_ms):
        number, op, _ = self.outgoing.pop(data.draw(st.integers(0, len(self.outgoing) - 1)))
        if op == "renew" and self.server_now() > self.expires:
            self.answers.append((number, "gone", 0))
            return
        self.expires = max(self.expires, self.server_now() + ttl_ms * 10_000)
        self.answers.append((number, op, ttl_ms))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def an_answer_comes(self, data):
        number, op, ttl_ms = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        newest = number == self.lease._open
        before = image(self.lease)
        if op == "acquire":
            read = self.lease.granted(number, self.now, grant_of(ttl_ms))
        elif op == "renew":
            read = self.lease.renewed(number, self.now, renewal_of(ttl_ms))
        else:
            read = self.lease.renew_failed(number, self.now, LeaseGone(fields={"reason": "expired"}))
        if not newest:
            assert not read
            assert image(self.lease) == before

    @rule(data=st.data())
    def a_request_fails(self, data):
        number = self.lease._open
        if number is None:
            return
        fail = self.lease.acquire_failed if self.lease.state is State.ACQUIRING else self.lease.renew_failed
        fail(number, self.now, data.draw(st.sampled_from([ConnectionFailed(), RateLimited()])))

    @rule(data=st.data())
    def nonsense_changes_nothing(self, data):
        event = data.draw(st.sampled_from(sorted(set(CALLS) - {Event.STOP}, key=lambda one: one.value)))
        if event in TRANSITIONS[self.lease.state]:
            return
        before = image(self.lease)
        number = data.draw(st.integers(-1, self.lease._sent + 2))
        if event in REPLIES and number == self.lease._open and event in {Event.GONE, Event.RENEWED_LATE}:
            return  # the same methods as a legal event
        with contextlib.suppress(IllegalEvent):
            assert CALLS[event](self.lease, number, self.now) is False
        assert image(self.lease) == before

    @rule(within_ms=st.integers(0, 10_000))
    def the_server_wants_a_renewal(self, within_ms):
        self.lease.renew_by(self.now, within_ms)
        if self.lease.state is State.HELD:
            assert self.lease.wake_ms() <= max(self.now + within_ms, self.lease.deadline_ms)

    @precondition(lambda self: self.lease.state in BELIEVING | {State.CONFIRMING})
    @rule(really=st.integers(0, 9), reason=st.sampled_from(["revoked", "taken_over"]))
    def the_server_says_that_it_is_over(self, really, reason):
        if really:
            return
        was = self.lease.state
        ended = self.lease.ended(self.now, reason)
        assert ended == (reason == "revoked"), "a takeover is asked about"
        if ended:
            self.expires = min(self.expires, self.server_now() - 1)
            assert self.lease.state is (State.REFUSED if was is State.CONFIRMING else State.LOST)
            assert self.lease.reason == "revoked"
            assert self.lease.owes_release

    @precondition(lambda self: not self.stopped)
    @rule(really=st.integers(0, 9))
    def stop(self, really):
        if really == 0:
            self.stopped = True
            self.lease.stop()

    @invariant()
    def never_believes_when_the_server_may_give_it_away(self):
        if getattr(self, "lease", None) is not None and self.lease.believes(self.now):
            assert self.server_now() <= self.expires
            assert not self.stopped
            assert self.lease.state in BELIEVING


AgainstAServer.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAgainstAServer = AgainstAServer.TestCase
