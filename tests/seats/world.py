"""The real scripts on a real store beside the oracle, with a clock that the test moves.

The scripts hold the store's clock monotonic: what it told last (`hwm` in meta) is the time until TIME is
later.  An offset that puts TIME far into the past and a `hwm` that the test writes make the clock exact, to
the millisecond, without a switch in the product.
"""

import asyncio
from collections import Counter
from typing import Any

import msgpack

from seatd.seats.layout import policy_operation
from seatd.seats.store import Store, StoreOptions, connect
from tests.seats.audit import Audit
from tests.seats.oracle import Oracle
from tests.valkey import ValkeyServer

T0 = 1_800_000_000_000
Q = 500
STOPPED = StoreOptions(q_ms=Q, clock_offset_ms=-3_000_000_000_000, timeout_ms=20_000)
Call = tuple[str, list[Any]]
BESIDE = {"renew": ("desk", "team", 1, 1), "release": (7, False)}


class World:
    """Runs calls on both, and raises `AssertionError` where they differ or an invariant falls."""

    def __init__(self, server: ValkeyServer, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._client = server.client()
        self._client.flushall()
        self.store = Store(connect(server.url, STOPPED), STOPPED)
        self.oracle = Oracle(Q, T0)
        self.audit = Audit()
        self._meta, self._stream, self._due = self.store.partition_keys(0)
        self._last = b"0-0"
        self.agreed = True
        self._history: list[str] = []
        self._await(self.store.load())  # one that was missing would run after the others of its round trip
        self._await(self.store.open_epoch(0, 0, 7))

    def _await(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)

    @property
    def now(self) -> int:
        return self.oracle.now

    def advance(self, to: int) -> None:
        """Move the clock."""
        assert to >= self.oracle.now
        self.oracle.now = to

    def run(self, calls: list[Call]) -> list[list[Any]]:
        """Run the calls in one round trip, on both; returns the real answers."""
        self.agreed = False
        try:
            answers = self._run(calls)
        except AssertionError as error:
            error.add_note("\n".join(self._history))
            raise
        self.agreed = True
        return answers

    def _run(self, calls: list[Call]) -> list[list[Any]]:
        tenants = sorted(self.oracle.tenants)
        looks = [(t, "status") for t in tenants] + [(t, "who", 0, 100) for t in tenants]
        calls = [*calls, ("inspect", looks)] if looks else calls
        self.oracle.clock = self.oracle.now
        self._client.hset(self._meta, "hwm", self.oracle.now)
        wire = [(verb, [self._wire(verb, op) for op in ops]) for verb, ops in calls]
        answers = self._await(self.store.run(0, wire))
        self.oracle.events.clear()
        for (verb, ops), replies in zip(calls, answers, strict=True):
            if isinstance(replies, Exception):
                raise replies
            for op, reply in zip(ops, replies, strict=True):
                self._compare(verb, op, reply)
            self.oracle.now = self.oracle.clock
        self._compare_stream()
        return answers[: len(calls) - bool(looks)]

    @staticmethod
    def _wire(verb: str, op: Any) -> Any:
        if verb == "project":
            return policy_operation(op)
        # What only matters while a tenant learns, or where no tombstone could be written, stays aside here.
        if verb == "revoke":
            return (*op[:5], 1 << 53, op[5], 7)
        return (*op, *BESIDE.get(verb, ()))

    def _compare(self, verb: str, op: Any, reply: Any) -> None:
        expected = self.oracle.answer(verb, op)
        assert reply == expected, f"{verb}{op} at {self.now}: {reply}, not {expected}"
        if verb != "inspect":
            self._history.append(f"{self.now - T0:+} {verb} {op} -> {reply}")
        tenant = self.oracle.tenants.get(op.tenant if verb == "project" else op[0])
        self.audit.operation(verb, op, reply, tenant.policy if tenant else None, self.now)

    def _compare_stream(self) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.xrange(self._stream, b"(" + self._last, b"+")
        pipe.hmget(self._meta, "seq", "hwm", "epoch")
        pipe.zrange(self._due, 0, -1, withscores=True)
        entries, (seq, hwm, epoch), due = pipe.execute()
        events = []
        for self._last, fields in entries:
            assert int(fields[b"p"]) == int(epoch) == 7
            shared = msgpack.unpackb(fields[b"e"])
            first = int(fields[b"s"]) - len(shared) + 1
            events += [(number, _event(each)) for number, each in enumerate(shared, first)]
            assert int(fields[b"a"]) == int(fields[b"s"])  # in a first epoch
        real, expected = (Counter(map(repr, list_)) for list_ in ([e for _, e in events], self.oracle.events))
        assert real == expected, f"events: only real {real - expected}, only expected {expected - real}"
        assert int(hwm) == self.oracle.now
        self.audit.stream(events, seq=int(seq), hwm=int(hwm))
        for name, tenant in self.oracle.tenants.items():
            wanted = self.oracle.wanted_at(tenant)
            if wanted is not None:
                looked_at = dict(due).get(name.encode())
                assert looked_at is not None, f"nobody will look at {name}"
                assert looked_at <= wanted, f"{name} is looked at too late"

    def finish(self) -> None:
        """Let everything run out and be swept, then check the whole ledger."""
        for _ in range(2):
            self.advance(self.now + 3_600_000)
            self.run([("sweep", [(t, t, 256) for t in sorted(self.oracle.tenants)])])
        for tenant in self.oracle.tenants.values():
            assert not tenant.seats
            assert not tenant.leases
        self.audit.closed()

    def close(self) -> None:
        """Close the connections."""
        self._await(self.store.close())
        self._client.close()


def _event(fields: list[Any]) -> tuple[Any, ...]:
    if fields[0] == "started":
        return (*fields[:6], fields[6] or {})
    return tuple(fields)
