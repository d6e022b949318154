"""A store node that is a real Valkey: the scripts, on the simulator's virtual time.

Losses are real: the process killed and started again, FLUSHALL, the keys put back as they were dumped some time ago; a
promotion makes the store follow nobody and come back, which gives it another replication id.

Calls go in by `Seats`, as they do in the product, one operation each; what would have to be brought from SQL (an epoch, a
policy, a tombstone) comes back as an answer, for `tests.sim.product` to bring in virtual time.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgpack
import redis

from seatd.model import Refusal
from seatd.seats import asking, store
from seatd.seats.agreement import Agreement
from seatd.seats.model import Acquire as Wanted
from seatd.seats.model import Caller
from seatd.seats.receipts import Keyring, seal
from seatd.seats.service import Seats
from seatd.seats.store import Answers
from seatd.seats.upkeep import Upkeep
from tests.sim.operations import Answer, Event, State
from tests.sim.rules import Rules, Seat, Times
from tests.sim.store import KEPT_MS, Node
from tests.sim.twin import SILENT, Twin, allowed, differ
from tests.sim.virtual import NotRunError, OneByOne, VirtualStore
from tests.valkey import ValkeyServer

KEY = "ab" * 32
RING = Keyring.of("k", {"k": b"s" * 32})
REFUSED = frozenset({"suspended", "not_named", "no_tariff", "trial_expired"})
OF_A_LEASE = frozenset({"started", "ended", "adopted"})


class NeedsPolicyError(Exception):
    """The store does not know the tenant."""


class BehindError(Exception):
    """SQL is in another epoch than the store, which is in this one."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__()


class NeedsBurialError(Exception):
    """Before this takes effect its tombstone has to be in SQL."""

    def __init__(self, user: str, start_ms: int) -> None:
        self.user = user
        self.start_ms = start_ms
        super().__init__()


@dataclass
class Snapshot(State):
    """What a store had at an instant: its keys as dumped."""

    dumped: list[bytes] = field(default_factory=list)
    model: State = field(default_factory=State)  # what the twin had

    def copy(self) -> "Snapshot":
        return self  # nobody changes one


def event_of(packed: bytes) -> Event | None:
    """Read an event as the simulator tells it; None where it is none of a lease."""
    fields = msgpack.unpackb(packed)
    return tuple(fields[:6]) if fields[0] in OF_A_LEASE else None


async def _nothing_committed(_partition: int) -> tuple[int, int]:
    return 0, 0


class Answering(Agreement):
    """The product's, but that it neither waits nor opens an epoch: that comes back as an answer."""

    async def look_for(self, partition: int, epoch: int) -> None:
        raise BehindError(epoch)


class AskedSeats(Seats):
    """The product's, but that what takes time comes back as an answer."""

    def __init__(self, *args: Any, **hooks: Any) -> None:
        super().__init__(*args, **hooks)
        self._agreement = Answering(self._batchers, self._answer, self._open_epoch)


class RealNode(Node):
    """One Valkey process; what the simulator's own node is asked, it is asked by the scripts."""

    def __init__(
        self, name: str, rules: Rules, times: Times, server: ValkeyServer, stores: "Valkeys"
    ) -> None:
        self._server = server
        self.stores = stores
        self._client = server.client()
        self._client.flushall()
        self._store = VirtualStore(server.url, times)
        self._batcher = OneByOne(self._store)
        self._seats = AskedSeats(
            self._store, [self._batcher], RING,
            project=self._needs_policy, open_epoch=self._needs_epoch, bury=self._buried,
        )  # fmt: skip
        self._upkeep = Upkeep(self._seats, self._store, [self._batcher], _nothing_committed)
        self._buried_ms = self._buried_in = 0
        self._ready = False
        self.twin = Twin(name, rules, times)
        super().__init__(name, rules, times)
        self._ready = True

    # -- what can happen to a node ----------------------------------------------------------------

    def restart(self) -> None:
        """Kill the process and start another, which knows nothing."""
        super().restart()
        if self._ready:
            self.twin.restart()
            self.close()
            self._server.kill()
            self._server.start()
            self._client = self._server.client()

    def promote(self) -> None:
        """Have another replication id, as a replica that becomes the primary has."""
        super().promote()
        if self._ready:
            self.twin.promote()
            self._client.execute_command("REPLICAOF", "127.0.0.1", "1")
            self._client.execute_command("REPLICAOF", "NO", "ONE")

    def put(self, state: State) -> None:
        """Have the keys of a snapshot, or none."""
        super().put(state)
        self.twin.put(state.model.copy() if isinstance(state, Snapshot) else State())
        dumped = state.dumped if isinstance(state, Snapshot) else []
        pipe = self._client.pipeline(transaction=False)
        pipe.flushall()
        for key, value in zip(dumped[::2], dumped[1::2], strict=True):
            pipe.restore(key, 0, value)
        pipe.execute()

    def keeps_copies(self) -> None:
        """Dump the keys after each call, so that `older` has something to give."""
        self._store.dumps = True

    def live(self, tenant: str) -> list[tuple[str, Seat]]:
        """List who sits, as an administrator would."""
        self._store.at(self.now, self.now, None)
        try:
            rows, _ = self._await(self._seats.sitting(tenant, 0, 100))
        except (NotRunError, NeedsPolicyError):
            return []
        return [
            (row.user, Seat(row.lease, row.client, row.kind, 0, row.since_ms, row.since_ms, row.expires_ms))
            for row in rows
            if not row.ending
        ]

    def told(self) -> list[Answers]:
        """Tell what the latest call added to the stream."""
        return self._batcher.added

    # -- calls -------------------------------------------------------------------------------------

    def call(self, verb: str, op: Any, host_ms: int, expected: tuple[int, int] | None = None) -> Answer:
        """Run one operation, and let the twin answer it as well."""
        time_ms, self.host = self.time_ms(host_ms), host_ms
        self.now = max(time_ms, self.state.hwm)
        self._store.at(time_ms, self.state.hwm, expected)
        self._batcher.raw, self._batcher.added = [], []
        answer = self._await(self._asked(verb, op))
        if answer[0] != "bury":
            self._beside(verb, op, expected, answer)
        if answer[0] not in {"stepped", "unopened"}:
            self._read_back(host_ms)
            self.twin.state.hwm = self.state.hwm  # starts may run ahead of the clock, and take it along
        return answer

    def _beside(self, verb: str, op: Any, expected: tuple[int, int] | None, answer: Answer) -> None:
        if self.stores.parted:
            return
        told = self.twin.answer(verb, op, self.host, expected, self.time_ms(self.host))
        if verb not in SILENT and differ(answer, told):
            self.stores.parted = True  # from here on they have different pasts
            if not allowed(answer, told):
                self.stores.tell_difference(f"{verb} {op}: {answer}, and by the rules {told}")

    async def _asked(self, verb: str, op: Any) -> Answer:
        try:
            return await self._run(verb, op)
        except NotRunError as error:
            return ["stepped", error.stepped] if error.stepped else ["unopened"]
        except NeedsPolicyError:
            return ["unknown_tenant"]
        except BehindError as error:
            return ["earlier", error.epoch]
        except NeedsBurialError as needs:
            return ["bury", needs.user, needs.start_ms]

    def _await(self, awaitable: Any) -> Any:
        return self.stores.loop.run_until_complete(awaitable)

    async def _run(self, verb: str, op: Any) -> Answer:
        try:
            special: Answer | None = await getattr(self, f"_real_{verb}")(op)
        except Refusal:
            special = None
        return special or self._translated(verb, op, self._batcher.raw)

    def _translated(self, verb: str, op: Any, raw: Answer) -> Answer:
        code = raw[0]
        if code == "granted":
            return [*raw[:8], raw[9]]
        if code in REFUSED:
            return ["refused", code]
        if code == "learning":
            doubtful = verb == "renew" and self.now + self.times.delta_ms > op.receipt.expires_ms
            why = "doubt" if doubtful else "limit" if verb == "renew" else verb
            return ["learning", raw[1] - raw[2], why]
        if code == "released":
            return ["released", raw[1] and (1 if op.buried_in else 2)]
        if code == "projected":
            return ["projected", raw[1], self.now - 1]
        return raw

    def _read_back(self, host_ms: int) -> None:
        epoch, seq, hwm, _ = self._store.meta
        state = State(epoch=int(epoch or 0), seq=int(seq or 0), hwm=int(hwm))
        self.state = state
        if self._store.dumps:
            snapshot = Snapshot(epoch=state.epoch, seq=state.seq, hwm=state.hwm, dumped=self._store.dumped)
            snapshot.model = self.twin.state.copy()
            self.copies = [kept for kept in self.copies if kept[0] >= host_ms - 2 * KEPT_MS]
            self.copies.append((host_ms, snapshot))

    # -- verbs --------------------------------------------------------------------------------------

    async def _real_acquire(self, op: Any) -> None:
        wanted = Wanted(op.user, op.client, request_id=op.request, takeover=op.takeover)
        self.stores.lease = op.lease
        await self._seats.acquire(Caller(op.tenant, KEY), wanted)

    async def _real_renew(self, op: Any) -> None:
        await self._seats.renew(Caller(op.tenant, KEY), op.receipt.lease, seal(RING, op.receipt))

    async def _real_release(self, op: Any) -> None:
        self._buried_ms, self._buried_in = op.receipt.start_ms, op.buried_in
        await self._seats.release(Caller(op.tenant, KEY), op.receipt.lease, seal(RING, op.receipt))

    async def _real_revoke(self, op: Any) -> None:
        self._buried_ms, self._buried_in = op.start, op.epoch
        await self._seats.revoke(op.tenant, op.lease, force=op.force)

    async def _real_take_away(self, op: Any) -> None:
        self._buried_ms, self._buried_in = op.start, op.epoch
        await self._seats.revoke_user(op.tenant, op.user, "agent")

    async def _real_project(self, op: Any) -> None:
        await self._seats.put_policy(op.policy)

    async def _real_reachable(self, _: Any) -> Answer:
        await self._seats.reachable()
        return ["reachable"]

    async def _real_sweep(self, _: Any) -> Answer:
        await self._upkeep.sweep_once(self._batcher)
        return ["swept", 0, 0]

    async def _real_again(self, op: Any) -> None:
        for event in op.events:
            await self._batcher.submit("readd", ("", event))

    async def _real_look(self, _: Any) -> Answer:
        seen = await self._store.look(0)
        return ["looked", seen.epoch, seen.known]

    async def _real_close(self, op: Any) -> Answer:
        return ["closed", await self._store.close_epoch(0, op.epoch)]

    async def _real_open(self, op: Any) -> Answer:
        opened = await self._store.open_epoch(0, op.seen, op.epoch)
        return ["open", opened.epoch]

    # -- what the scripts lack ------------------------------------------------------------------------

    async def _needs_policy(self, _tenant: str) -> bool:
        raise NeedsPolicyError

    async def _needs_epoch(self, _partition: int, stepped: int) -> None:
        raise NotRunError(stepped)

    async def _buried(self, _tenant: str, user: str, start_ms: int, reason: str) -> int:
        if reason != "released" and self._buried_ms != start_ms:
            raise NeedsBurialError(user, start_ms)
        return self._buried_in

    # -- the stream ----------------------------------------------------------------------------------

    def events(self) -> list[Any]:
        """Read what waits in the stream."""
        return self._await(self._store.events(0, "0-0", 2_000))

    def trim(self, upto: Any) -> None:
        """Drop what is committed."""
        self._await(self._store.trim(0, upto))

    def close(self) -> None:
        """Close the connections."""
        self._await(self._store.close())
        self._client.close()


class Valkeys:
    """Two store processes and an event loop, used by one history after another."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.now_ms = 0
        self.parted = False  # a store and its twin, in this history
        self.tell_difference: Callable[[str], None] = print
        self.lease = ""  # what the next lease is to be called, so that histories can be told by its name
        self._servers: list[ValkeyServer] = []
        self._nodes: list[RealNode] = []

    def node(self, name: str, rules: Rules, times: Times) -> RealNode:
        """Give a history its node: n0 and n1 have a process each."""
        number = int(name[1:])
        while len(self._servers) <= number:
            self._servers.append(ValkeyServer())
            self._servers[-1].start()
        self._nodes.append(RealNode(name, rules, times, self._servers[number], self))
        return self._nodes[-1]

    def running_s(self) -> float:
        """Tell virtual time, as a server's own clock."""
        return self.now_ms / 1000

    def next_lease(self) -> str:
        """Name the next lease."""
        return self.lease

    def history_over(self) -> None:
        """Close what the history opened."""
        for node in self._nodes:
            with contextlib.suppress(redis.RedisError):
                node.close()
        self._nodes = []
        self.parted = False

    def close(self) -> None:
        """End the processes."""
        self.history_over()
        self.loop.close()
        for server in self._servers:
            server.remove()


@contextlib.contextmanager
def valkeys() -> Iterator[Valkeys]:
    """Have store processes for some histories."""
    made = Valkeys()
    try:
        with (
            mock.patch.object(asking, "_new_lease_id", made.next_lease),
            mock.patch.object(store, "_running_s", made.running_s),
        ):
            yield made
    finally:
        made.close()
