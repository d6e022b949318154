"""What the store tells of by itself: leases that were ended, policies that changed.  A connection of its own hears it.

Nothing rests on it: whoever misses a piece is told the same at the next renewal.  So there is no queue and no
resending; a connection that fails is made anew, with pauses, and what was said meanwhile is gone.  What a piece of news means to
clients is the listener's business.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgpack
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from seatd.seats.store import Store
from seatd.telemetry import log

QUIET_S: Final = 10.0
"""After so long without a word the store is asked whether it is there, and given as long to answer."""
PAUSE_S: Final = (0.2, 5.0)
"""How long to wait before connecting anew: at first, and at most."""


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """A lease was ended by the server, for `reason`."""

    tenant: str
    lease: str
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A tenant's policy was replaced; `ended` tells that leases ended with it."""

    tenant: str
    ended: bool


News = LeaseEnded | PolicyChanged


def read(payload: bytes) -> News | None:
    """Read a piece of news; None where it is of a kind that is not known here, as a newer script's may be."""
    try:
        kind, *rest = msgpack.unpackb(payload)
        if kind == "ended":
            tenant, lease, reason = map(str, rest)
            return LeaseEnded(tenant, lease, reason)
        if kind == "policy":
            tenant, ended = rest
            return PolicyChanged(str(tenant), bool(ended))
    except (ValueError, TypeError, msgpack.UnpackException):
        pass
    return None


class Subscription:
    """Hears what the partitions tell, over a connection that nothing else uses; `tell` is called with each piece."""

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        partitions: Iterable[int],
        tell: Callable[[News], None],
    ) -> None:
        self._connect = connect
        self._names = [Store.partition_keys(partition)[0] for partition in partitions]
        self._tell = tell

    async def hear_for_ever(self) -> None:
        """Hear until cancelled; a connection that fails is made anew."""
        pause_s = PAUSE_S[0]
        while True:
            connection = self._connect()
            try:
                async with asyncio.timeout(QUIET_S):
                    await connection.connect()  # type: ignore[no-untyped-call]  # the library's own gap
                    await connection.send_command("SUBSCRIBE", *self._names, check_health=False)
                pause_s = PAUSE_S[0]
                await self._hear(connection)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("news not heard", error=f"{type(error).__name__}: {error}")
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S[1])

    async def _hear(self, connection: AbstractConnection) -> None:
        asked = False
        while True:
            # None after that time, which is not an error of the connection.
            said: Any = await connection.read_response(timeout=QUIET_S)
            if said is None:
                if asked:
                    raise TimeoutError("no answer")
                async with asyncio.timeout(QUIET_S):
                    await connection.send_command("PING", check_health=False)
            asked = said is None
            if isinstance(said, list) and len(said) == 3 and said[0] == b"message":
                news = read(said[2])
                if news is not None:
                    self._tell(news)
