"""The seat store: one typed method a script; owns the key names and the connection's rules.

A script that may have run is never sent again: the client library's retries are off, and only
NOSCRIPT, which says that nothing ran, is answered by loading and sending once more.  What a failed
call means to its callers is the batcher's business.
"""

import asyncio
import hashlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.resources import files
from typing import Any, Final, cast

import msgpack
import msgspec
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from seatd.config import SENTINEL_SCHEME, parse_sentinel_url
from seatd.model import UsageEvent, UsageEvents
from seatd.seats import resp
from seatd.seats.layout import ENTRY_MAX, Operation, usage_events
from seatd.seats.primary import Watchers

TENANT_KEYS: Final = ("t", "b", "s", "v", "l", "x", "f", "m", "c", "d", "w", "a")
PREFIX: Final = "seatd"

Answer = list[Any]


class StoreAwayError(Exception):
    """The store did not answer, or answered that it cannot serve now; the script may have run."""


class UnopenedError(Exception):
    """No epoch was opened on this store, or its clock has jumped since it answered in epoch `stepped`: nothing ran."""

    def __init__(self, verb: str, *, stepped: int = 0) -> None:
        self.stepped = stepped
        super().__init__(verb)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """An epoch that is open (0: none), whether it was opened on this store, and the clock's high-water mark."""

    epoch: int
    known: bool
    hwm_ms: int


class Answers(list[Answer]):
    """What a script answered, in order, at the store's `now_ms`.

    `events` are those it added to the stream of `epoch`, from number `first_seq` on.
    """

    def __init__(
        self, answers: list[Answer], now_ms: int, epoch: int, first_seq: int, events: list[bytes]
    ) -> None:
        self.now_ms = now_ms
        self.epoch = epoch
        self.first_seq = first_seq
        self.events = events
        super().__init__(answers)


Outcome = Answers | StoreAwayError | UnopenedError
"""What came of one script: an answer an operation, or why there is none."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How the store is spoken to: waits in milliseconds, `q_ms` the lock delay, `clock_offset_ms` for tests.

    `delta_ms` is the largest offset between clocks of store nodes, `w_ms` how long an old primary may write on.
    """

    partitions: int = 1
    q_ms: int = 500
    stream_max: int = 1_000_000
    timeout_ms: int = 800
    connect_timeout_ms: int = 500
    clock_offset_ms: int = 0
    delta_ms: int = 2_000
    w_ms: int = 0


VERBS: Final = ("acquire", "line", "renew", "release", "revoke", "sweep", "project", "inspect", "readd")
LOOK_AT_THE_LINE: Final = ("acquire", "line")


def _scripts() -> dict[str, bytes]:
    folder = files("seatd.seats") / "lua"
    identity = (folder / "identity.lua").read_bytes() + b"\n"
    prelude = identity + (folder / "prelude.lua").read_bytes()
    in_front = {verb: prelude + (folder / "waiting.lua").read_bytes() for verb in LOOK_AT_THE_LINE}
    scripts = {
        verb: in_front.get(verb, prelude) + b"\n" + (folder / f"{verb}.lua").read_bytes() for verb in VERBS
    }
    scripts["open"] = identity + (folder / "open.lua").read_bytes()
    return scripts


SCRIPTS: Final = _scripts()
TRIM: Final = (files("seatd.seats") / "lua" / "trim.lua").read_bytes()
BACKLOG: Final = (files("seatd.seats") / "lua" / "backlog.lua").read_bytes()
_MAY_NOT_WRITE: Final = ("READONLY", "NOREPLICAS", "MASTERDOWN")
_SHA: Final = {verb: hashlib.sha1(text, usedforsecurity=False).hexdigest() for verb, text in SCRIPTS.items()}


_TENANTS_KEPT: Final = 16_384
"""Tenants whose keys are kept as they are sent: a kilobyte each."""

_pack: Final = msgspec.msgpack.Encoder().encode
# The scripts' unpacker knows one kind of string, not the newer one for bytes, which only events to be added again are.
_PACK: Final = {"readd": partial(msgpack.packb, use_bin_type=False)}
# The scripts' packer knows one kind of string, too; that of events holds bytes, not text.
_answered: Final = msgspec.msgpack.Decoder(tuple[int, list[Any], Any, list[msgspec.Raw], Any]).decode
_unanswered: Final = msgspec.msgpack.Decoder(tuple[str]).decode
_HEADS: Final = {0xD9: 2, 0xDA: 3, 0xDB: 5}
"""How long the head of a packed string is, by its first byte; of a short one it is that byte alone."""


def _bytes_of(packed: msgspec.Raw) -> bytes:
    raw = bytes(packed)
    return raw[_HEADS.get(raw[0], 1) :]


@lru_cache(maxsize=1_024)
def _partition_keys(partition: int) -> bytes:
    return resp.bulks(*Store.partition_keys(partition), Store.tenants_key(partition))


@lru_cache(maxsize=_TENANTS_KEPT)
def _tenant_keys(partition: int, tenant: str) -> bytes:
    return resp.bulks(*Store.tenant_keys(partition, tenant))


def connect(url: str, options: StoreOptions) -> AbstractConnection:
    """Make a connection to the store at `url` (see `config.STORE_SCHEMES`) that never retries by itself.

    Nothing is sent yet.  The one wait that it bounds itself is the connect; `Store` bounds the rest, at the price of one timer
    an exchange: the library would take a task and two timers more.
    """
    if url.startswith(SENTINEL_SCHEME):
        return watchers(url, options).connection_to_primary()
    pool = ConnectionPool.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=options.connect_timeout_ms / 1000,
        socket_timeout=None,
        decode_responses=False,
        protocol=2,
    )
    return pool.connection_class(**pool.connection_kwargs)


def watchers(url: str, options: StoreOptions) -> Watchers:
    """Make the sentinels of a `redis+sentinel://` store."""
    return Watchers(parse_sentinel_url(url), options.connect_timeout_ms / 1000)


def _running_s() -> float:
    """Read a clock that nobody sets and that counts while the machine sleeps, which is no step of the store's."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Store:
    """The scripts of the seat plane over one connection; callers take turns.

    Every method raises `StoreAwayError` where the store is away.
    """

    def __init__(self, connection: AbstractConnection, options: StoreOptions) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()
        self._last: dict[int, tuple[int, float, int]] = {}
        self._doubted = False
        self.options = options

    def doubt(self) -> None:
        """Take a new connection for the next call: the node may not be the primary any more."""
        self._doubted = True

    def partition_of(self, tenant: str) -> int:
        """Tell which partition a tenant lives in."""
        return zlib.crc32(tenant.encode()) % self.options.partitions

    @staticmethod
    def partition_keys(partition: int) -> list[str]:
        """Name the keys of a partition: meta, usage stream, due."""
        return [f"{PREFIX}:{{p{partition:02}}}:{name}" for name in ("meta", "events", "due")]

    @staticmethod
    def tenants_key(partition: int) -> str:
        """Name the key of a partition that lists the tenants with a policy."""
        return f"{PREFIX}:{{p{partition:02}}}:tenants"

    @staticmethod
    def tenant_keys(partition: int, tenant: str) -> list[str]:
        """Name the keys of a tenant, in the order that the scripts' prelude tells."""
        return [f"{PREFIX}:{{p{partition:02}}}:{name}:{tenant}" for name in TENANT_KEYS]

    async def run(self, partition: int, calls: Sequence[tuple[str, Sequence[Operation]]]) -> list[Outcome]:
        """Send the calls (verb, operations) in one round trip; outcomes come a call, in order.

        A call that the store refused or failed is its error; the others ran, and have their answers.
        """
        sent_s = _running_s()
        commands = [self._command(partition, verb, operations) for verb, operations in calls]
        replies = await self._send(commands)
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:  # NOSCRIPT says that nothing ran, so these, and only these, are sent again
            await self.load()
            for i, reply in zip(missing, await self._send([commands[i] for i in missing]), strict=True):
                replies[i] = reply
        last_epoch = self._last[partition][2] if partition in self._last else 0
        outcomes = [
            self._outcome(verb, reply, last_epoch) for (verb, _), reply in zip(calls, replies, strict=True)
        ]
        self._note_time(partition, outcomes, sent_s)
        return outcomes

    def _command(self, partition: int, verb: str, operations: Sequence[Operation]) -> bytes:
        numbers: dict[str, int] = {}
        packed = [(numbers.setdefault(op[0], len(numbers) + 1), *op[1:]) for op in operations]
        options = self.options
        settings = (
            options.q_ms,
            options.clock_offset_ms,
            options.stream_max,
            options.delta_ms,
            options.w_ms,
            self._expected_ms(partition),
            self._last[partition][2] if partition in self._last else 0,
        )
        keys = 4 + len(numbers) * len(TENANT_KEYS)
        return resp.joined(
            keys + 5,
            resp.bulks("EVALSHA", _SHA[verb], keys),
            _partition_keys(partition),
            *(_tenant_keys(partition, tenant) for tenant in numbers),
            resp.bulk(_pack(settings)),
            resp.bulk(_PACK.get(verb, _pack)(packed)),
        )

    def _expected_ms(self, partition: int) -> int:
        """Reckon the time that the store should have: its last answer and what has passed here since."""
        last = self._last.get(partition)
        return 0 if last is None else last[0] + int((_running_s() - last[1]) * 1000)

    async def _send(self, commands: Sequence[bytes]) -> list[Any]:
        async with self._turn:
            return await self._exchange(commands)

    async def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        connection = self._connection
        try:
            async with asyncio.timeout(self.options.timeout_ms / 1000):
                # An idle connection that has something to read was closed, or is out of step.
                if connection.is_connected and (self._doubted or await connection.can_read()):
                    await connection.disconnect(nowait=True)
                self._doubted = False
                await connection.send_packed_command(b"".join(commands), check_health=False)
                replies = [await self._reply() for _ in commands]
                self._doubted = any(_is_no_primary(reply) for reply in replies)
                return replies
        except BaseException as error:
            # The reply of a call that was cut off must never be read as the next one's.
            await connection.disconnect(nowait=True)
            if isinstance(error, (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)):
                raise StoreAwayError(f"{type(error).__name__}: {error}") from error
            raise

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:  # this command's answer, not the connection's end
            return error

    @staticmethod
    def _outcome(verb: str, reply: Any, last_epoch: int) -> Outcome:
        if isinstance(reply, RedisError):
            return StoreAwayError(f"{verb}: {reply}")
        try:
            now_ms, answers, first_seq, events, epoch = _answered(reply)
        except msgspec.ValidationError:
            (why,) = _unanswered(reply)
            return UnopenedError(verb, stepped=last_epoch if why == "stepped" else 0)
        return Answers(answers, now_ms, epoch, first_seq, [_bytes_of(event) for event in events])

    def _note_time(self, partition: int, outcomes: Sequence[Outcome], sent_s: float) -> None:
        """Note the store's time of an answer against the instant of sending, before which it cannot be.

        A long way there tells too little of the time to go by; what was known before stands.
        """
        for outcome in reversed(outcomes):
            if isinstance(outcome, Answers):
                if (_running_s() - sent_s) * 1000 <= self.options.q_ms:
                    self._last[partition] = (outcome.now_ms, sent_s, outcome.epoch)
                return
            if isinstance(outcome, UnopenedError):
                # After a step the expectation stays, for all who ask in this epoch; of the next one it says nothing.
                if not outcome.stepped:
                    self._last.pop(partition, None)
                    self.doubt()
                return

    async def load(self) -> None:
        """Load every script."""
        for reply in await self._send([resp.command("SCRIPT", "LOAD", text) for text in SCRIPTS.values()]):
            if isinstance(reply, RedisError):
                raise StoreAwayError(str(reply))

    async def look(self, partition: int) -> PartitionState:
        """Look at a partition: which epoch is open, and whether on this store."""
        return await self._open(partition, "look", 0, 0)

    async def open_epoch(self, partition: int, seen: int, epoch: int) -> PartitionState:
        """Open an epoch, unless another was opened since `seen` was; returns what is open now."""
        return await self._open(partition, "open", seen, epoch)

    async def know_again(self, partition: int, seen: int) -> PartitionState:
        """Go on with the epoch `seen` on this store, which provably lost nothing."""
        return await self._open(partition, "know", seen, 0)

    async def close_epoch(self, partition: int, before: int) -> bool:
        """Have this node answer nothing more, if it is in an epoch before that one; tell if that was new."""
        return (await self._open(partition, "close", 0, before)).known

    async def _open(self, partition: int, what: str, seen: int, epoch: int) -> PartitionState:
        meta, stream, _ = self.partition_keys(partition)
        told: tuple[resp.Part, ...] = (self.options.clock_offset_ms, what, seen, epoch)
        open_now, known, hwm_ms = await self._one(["EVAL", SCRIPTS["open"], 2, meta, stream, *told])
        return PartitionState(int(open_now), bool(known), int(hwm_ms))

    async def _one(self, command: list[resp.Part]) -> Any:
        (reply,) = await self._send([resp.command(*command)])
        if isinstance(reply, RedisError):
            raise StoreAwayError(str(reply))
        return reply

    async def longest_alone_ms(self) -> int | None:
        """Tell how long a primary may go on writing when no replica hears it; None: for ever, or it does not say."""
        reply = await self._one(["CONFIG", "GET", "min-replicas-*"])
        values = {name.decode(): int(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}
        if not values.get("min-replicas-to-write") or not values.get("min-replicas-max-lag"):
            return None
        return (values["min-replicas-max-lag"] + 1) * 1000

    async def due(self, partition: int, now_ms: int, most: int) -> list[str]:
        """Name up to `most` tenants that want to be swept by `now_ms`, the longest due first."""
        key = self.partition_keys(partition)[2]
        reply = await self._one(["ZRANGEBYSCORE", key, "-inf", now_ms, "LIMIT", 0, most])
        return [name.decode() for name in reply]

    async def tenants(self, partition: int) -> list[str]:
        """Name the tenants of a partition that have a policy, sorted."""
        reply = await self._one(["SMEMBERS", self.tenants_key(partition)])
        return sorted(name.decode() for name in reply)

    async def now_ms(self) -> int:
        """Read the store's clock."""
        seconds, micros = await self._one(["TIME"])
        return int(seconds) * 1000 + int(micros) // 1000 + self.options.clock_offset_ms

    async def events(self, partition: int, after: str, most: int) -> UsageEvents:
        """Read usage events after the stream id `after` (`0-0`: from the beginning), whole entries.

        These are up to `most`, where that is as many as an entry holds.
        """
        key = self.partition_keys(partition)[1]
        events = UsageEvents(more=True)
        count = max(most // ENTRY_MAX, 1)
        while events.more:
            page = await self._one(["XRANGE", key, f"({after}", "+", "COUNT", count])
            for number, entry in enumerate(page):
                shared = usage_events(partition, entry)
                # Another epoch than the last page's may be another store's, which holds other events before these.
                elsewhere = number == 0 and shared[0].epoch != (events or shared)[-1].epoch
                if elsewhere or (events and len(events) + len(shared) > most):
                    return events
                events += shared
            events.more = len(page) == count
            if most - len(events) < ENTRY_MAX:
                break
            if page:
                after = page[-1][0].decode()
            count = min(4 * count, most - len(events))  # where entries hold few
        return events

    async def trim(self, partition: int, upto: UsageEvent) -> None:
        """Drop the events up to and including `upto`, which are committed elsewhere, unless the store was lost since.

        `upto` is the last event of its entry.
        """
        milliseconds, _, sequence = upto.stream_id.partition("-")
        first_kept = f"{milliseconds}-{int(sequence) + 1}"
        meta, stream, _ = self.partition_keys(partition)
        await self._one(["EVAL", TRIM, 2, stream, meta, upto.stream_id, first_kept, upto.epoch, upto.seq])

    async def backlog(self, partition: int) -> int:
        """Count the events that wait in the stream."""
        meta, stream, _ = self.partition_keys(partition)
        return int(await self._one(["EVAL", BACKLOG, 2, meta, stream]))

    async def keep(self, name: str, value: bytes) -> None:
        """Keep a small sealed value beside the seats, so that a start needs no SQL."""
        await self._one(["SET", f"{PREFIX}:kept:{name}", value])

    async def kept(self, name: str) -> bytes | None:
        """Read what `keep` kept; None where there is nothing."""
        return cast("bytes | None", await self._one(["GET", f"{PREFIX}:kept:{name}"]))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)


def _is_no_primary(reply: Any) -> bool:
    """Tell whether a node said that it may not write: it is a replica, or no replica hears it."""
    if isinstance(reply, ReadOnlyError | MasterDownError):
        return True
    return isinstance(reply, ResponseError) and any(word in str(reply) for word in _MAY_NOT_WRITE)
