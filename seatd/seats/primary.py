"""Where the primary is, for a store that sentinels watch: asked anew for each connection, believed of nobody else.

The client library's own managed connection goes on trying the node that it knew, so its connection is not used; its
sentinel clients are.  All sentinels are asked at once, and of the answers of most of them the one of the latest failover
counts, so that one that was cut off misleads nobody.  Every wait is bounded; after a failure the next attempt comes
after a short pause, which is never the same, so that many seatds do not come back in step.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError

from seatd.config import SentinelUrl

ASK_S: Final = 0.25
PAUSE_S: Final = 0.025
DOUBLINGS_MAX: Final = 3

Place = tuple[str, int]


class Watchers:
    """The sentinels of one store, and what they say."""

    def __init__(self, url: SentinelUrl, connect_timeout_s: float) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s

    async def primary(self) -> Place:
        """Name the primary; raises the client library's `ConnectionError` where no sentinel knows one."""
        found: list[tuple[int, Place]] = []
        service = self._url.service
        async with self._sentinels() as sentinels:

            async def ask(client: Any) -> None:
                # While replicas are being told, the full state still shows the old primary; only the address is the
                # new one's already.  The epoch is read first: a later one must not come with an earlier address.
                epoch = int((await client.sentinel_masters())[service]["config-epoch"])
                place = await client.sentinel_get_master_addr_by_name(service)
                if place:
                    found.append((epoch, (place[0], int(place[1]))))

            await _most([ask(client) for client in sentinels.sentinels])
        if not found:
            raise StoreConnectionError(f"no sentinel names a primary of {service}")
        return max(found)[1]

    async def nodes(self) -> set[Place]:
        """Name all nodes that the sentinels have ever heard of, whatever they are and however they do."""
        found: set[Place] = set()
        service = self._url.service
        async with self._sentinels() as sentinels:

            async def ask(client: Any) -> None:
                states = [(await client.sentinel_masters())[service]]
                states += await client.sentinel_slaves(service)
                found.update((state["ip"], int(state["port"])) for state in states)

            await _most([ask(client) for client in sentinels.sentinels], wait_for_all=True)
        return found

    def connection_to_primary(self) -> Connection:
        """Make a connection that finds the primary whenever it connects; nothing is sent yet."""
        kind = SecurePrimaryConnection if self._url.asks("ssl") else PrimaryConnection
        return kind(watchers=self, **self._node_options())

    def connection_to(self, place: Place) -> Connection:
        """Make a connection to that node, primary or not; nothing is sent yet."""
        kind = SSLConnection if self._url.asks("ssl") else Connection
        return kind(host=place[0], port=place[1], **self._node_options())

    def _node_options(self) -> dict[str, Any]:
        url = self._url
        login = {"username": url.username, "password": url.password, "db": url.db}
        return {**login, **self._common(), **(self._ssl() if url.asks("ssl") else {})}

    def _common(self) -> dict[str, Any]:
        return {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": self._connect_timeout_s,
            "socket_timeout": None,  # whoever has the connection bounds its waits
            "decode_responses": False,
            "protocol": 2,
        }

    def _ssl(self) -> dict[str, Any]:
        options = self._url.options
        files = {
            name: options[name] for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") if name in options
        }
        return {**files, "ssl_check_hostname": self._url.asks("ssl_check_hostname", default=True)}

    @contextlib.asynccontextmanager
    async def _sentinels(self) -> AsyncIterator[Sentinel]:
        options = self._common() | {"socket_timeout": ASK_S, "decode_responses": True}
        for name in ("username", "password"):
            options[name] = self._url.options.get(f"sentinel_{name}")
        if self._url.asks("sentinel_ssl", default=self._url.asks("ssl")):
            options |= {"ssl": True, **self._ssl()}
        hosts = [(address.host, address.port) for address in self._url.sentinels]
        sentinels = Sentinel(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]  # the library's
        try:
            yield sentinels
        finally:
            with contextlib.suppress(RedisError, OSError):
                await sentinels.aclose()


async def _most(asking: list[Coroutine[Any, Any, None]], *, wait_for_all: bool = False) -> None:
    """Wait until most have answered, and no longer than a moment; one that fails has said nothing."""
    waiting: set[asyncio.Future[None]] = {asyncio.ensure_future(one) for one in asking}
    enough = len(waiting) if wait_for_all else len(waiting) // 2 + 1
    deadline = time.monotonic() + ASK_S
    try:
        while waiting and enough > 0 and (left_s := deadline - time.monotonic()) > 0:
            done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            enough -= sum(1 for one in done if one.exception() is None)
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


class PrimaryConnection(Connection):
    """A connection to whichever node is the primary when it connects."""

    def __init__(self, *, watchers: Watchers, **options: Any) -> None:
        self._watchers = watchers
        self._failures = 0
        self._again_at = 0.0
        super().__init__(**options)

    async def connect_check_health(
        self,
        check_health: bool = True,
        retry_socket_connect: bool = True,
    ) -> None:
        """Connect, unless it is connected; after a failure only when the pause is over."""
        if self.is_connected:
            return
        await asyncio.sleep(max(self._again_at - time.monotonic(), 0))
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except BaseException:
            pause_s = PAUSE_S * 2**self._failures
            self._failures = min(self._failures + 1, DOUBLINGS_MAX)
            self._again_at = time.monotonic() + random.uniform(pause_s / 2, pause_s)  # noqa: S311 - no secret
            raise
        self._failures = 0

    async def _connect(self) -> None:
        self.host, self.port = await self._watchers.primary()
        await super()._connect()  # type: ignore[no-untyped-call]  # the library's

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Introduce ourselves, and have the node say that it is a primary: sentinels may be late."""
        await super().on_connect_check_health(check_health)
        await self.send_command("ROLE", check_health=False)
        role = (await self.read_response())[0]
        if role != b"master":
            raise StoreConnectionError(f"{self.host}:{self.port} is no primary any more")


class SecurePrimaryConnection(PrimaryConnection, SSLConnection):
    """The same over TLS."""
