"""A primary, its replicas and three sentinels: real processes on ports of their own, several sets side by side.

Ports lie below those that outgoing connections get, so a node that is dead for a while finds its own free again.  Times are
short: a primary that does not answer for half a second is down, and another is promoted a second or two later.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import redis

from seatd.embedded import find_binary

SERVICE: Final = "seats"
HOST: Final = "127.0.0.1"
PORTS: Final = range(15_000, 32_000)
READY_S: Final = 30.0


def free_port() -> int:
    """Find a port that nobody listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def until(what: Callable[[], Any], seconds: float = READY_S, doing: str = "") -> Any:
    """Wait until `what` gives something true; a store that does not answer is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.exceptions.RedisError):
            if seen := what():
                return seen
        assert time.monotonic() < deadline, doing or what
        time.sleep(0.02)


class Node:
    """One process, a store or a sentinel, in a folder of its own; fault it as a machine would be."""

    def __init__(
        self, folder: Path, options: dict[str, Any], *, sentinel: bool = False, password: str | None = None
    ) -> None:
        self.folder = folder
        self._password = password
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        lines = {"bind": HOST, "port": self.port, "dir": folder, "logfile": folder / "log", **options}
        self._conf = folder / "conf"
        self._conf.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self._mode = ["--sentinel"] if sentinel else []

    def configure(self, *lines: str) -> None:
        """Add lines to the configuration, which the process rewrites as it learns; before it starts."""
        with self._conf.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def start(self) -> None:
        """Start, or start again with what it knew, and wait until it answers."""
        command = [find_binary(), str(self._conf), *self._mode]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self.ask("PING"), doing=f"{self.folder.name} does not start")

    def ask(self, *command: Any) -> Any:
        """Run one command on a connection of its own; raises `RedisError` where it does not answer."""
        waits: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1}
        with redis.Redis(HOST, self.port, password=self._password, **waits) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: it neither answers nor closes anything."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT: it is what it was when it was paused."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    @property
    def url(self) -> str:
        """The node itself, past the sentinels."""
        return f"redis://{HOST}:{self.port}"

    @property
    def is_primary(self) -> bool:
        """Whether it says of itself that it is one; not where it does not answer."""
        try:
            return bool(self.ask("ROLE")[0] == b"master")
        except redis.exceptions.RedisError:
            return False


class Sentinels:
    """A watched set of stores; `url` is what seatd is told.  Use with `with`, or `start` and `remove`.

    With `lag_s` a primary refuses writes when no replica has been heard of for so long (min-replicas-max-lag).  With
    `passwords`, of the stores and of the sentinels, both ask for theirs.
    """

    def __init__(
        self,
        *,
        replicas: int = 2,
        down_after_ms: int = 500,
        failover_timeout_ms: int = 3_000,
        lag_s: int = 1,
        options: dict[str, Any] | None = None,
        passwords: tuple[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sn-"))
        store = {
            "save": '""',
            "appendonly": "no",
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
            "min-replicas-to-write": 1 if lag_s else 0,
            "min-replicas-max-lag": lag_s,
            **(options or {}),
        }
        password, watching = passwords or (None, None)
        store |= {"requirepass": password, "masterauth": password} if password else {}
        asks = {"requirepass": watching} if watching else {}
        self.nodes = [
            Node(self.folder / f"node{number}", store, password=password) for number in range(replicas + 1)
        ]
        self.sentinels = [
            Node(self.folder / f"sentinel{number}", asks, sentinel=True, password=watching)
            for number in range(3)
        ]
        for replica in self.nodes[1:]:
            replica.configure(f"replicaof {HOST} {self.nodes[0].port}")
        for sentinel in self.sentinels:
            sentinel.configure(
                f"sentinel monitor {SERVICE} {HOST} {self.nodes[0].port} 2",
                f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
                f"sentinel failover-timeout {SERVICE} {failover_timeout_ms}",
                f"sentinel parallel-syncs {SERVICE} {replicas}",
                *([f"sentinel auth-pass {SERVICE} {password}"] if password else []),
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def url(self) -> str:
        """The store's URL as seatd takes it."""
        return f"redis+sentinel://{self.places}/{SERVICE}"

    @property
    def places(self) -> str:
        """Where the sentinels are, as a URL names them."""
        return ",".join(f"{HOST}:{node.port}" for node in self.sentinels)

    def start(self) -> None:
        """Start everything, and wait until a failover could be decided."""
        for node in (*self.nodes, *self.sentinels):
            node.start()
        self.wait_until_whole()

    def primary(self) -> Node:
        """The node that most sentinels call the primary now."""
        named = [port for sentinel in self.sentinels if (port := self._named_by(sentinel))]
        most = max(set(named), key=named.count)
        return next(node for node in self.nodes if node.port == most)

    @staticmethod
    def _named_by(sentinel: Node) -> int:
        with contextlib.suppress(redis.exceptions.RedisError):
            address = sentinel.ask("SENTINEL", "get-master-addr-by-name", SERVICE)
            return int(address[1]) if address else 0
        return 0

    def wait_for_another(self, old: Node, seconds: float = READY_S) -> Node:
        """Wait until the sentinels name another primary than `old`, which takes writes; returns it."""

        def another() -> Node | None:
            node = self.primary()
            return node if node is not old and node.is_primary else None

        found: Node = until(another, seconds, "no other node was promoted")
        return found

    def fail_over(self, fault: Callable[[Node], None] = Node.kill) -> tuple[Node, Node]:
        """Fault the primary and wait until another stands in; returns (old, new)."""
        old = self.primary()
        fault(old)
        return old, self.wait_for_another(old)

    def bring_back(self, node: Node) -> None:
        """Have a node that was killed or paused follow the primary now; left alone, sentinels take some ten seconds."""
        if node.process is None or node.process.poll() is not None:
            node.start()
        else:
            node.go_on()
        primary = self.primary()
        until(lambda: node.ask("REPLICAOF", HOST, primary.port), doing="the node does not come back")
        self.wait_until_whole()

    def wait_until_whole(self, seconds: float = READY_S) -> None:
        """Wait until every node follows the primary and every sentinel knows all: the next failover can come."""
        until(self._whole, seconds, "the set is not whole")

    def _whole(self) -> bool:
        primary = self.primary()
        for node in self.nodes:
            role = node.ask("ROLE")
            if node is primary:
                if role[0] != b"master":
                    return False
            elif role[0] != b"slave" or role[2] != primary.port or role[3] != b"connected":
                return False
        return all(self._knows_all(sentinel, primary) for sentinel in self.sentinels)

    def _knows_all(self, sentinel: Node, primary: Node) -> bool:
        raw = sentinel.ask("SENTINEL", "MASTER", SERVICE)
        state = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=True))
        known = {_text(name): _text(value) for name, value in state.items()}
        followers = sentinel.ask("SENTINEL", "REPLICAS", SERVICE)
        return (
            known["port"] == str(primary.port)
            and known["flags"] == "master"
            and int(known["num-other-sentinels"]) == len(self.sentinels) - 1
            and len(followers) == len(self.nodes) - 1
            and all("s_down" not in str(follower) for follower in followers)
        )

    def remove(self) -> None:
        """Kill everything and remove the folder."""
        for node in (*self.sentinels, *self.nodes):
            with contextlib.suppress(OSError):
                node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
