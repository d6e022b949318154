"""The load generator against servers that answer as told: what is counted, from when, and what it makes of pieces."""

import asyncio
import time
from typing import Any

import msgpack
import pytest

from bench import loops
from bench.http1 import HttpConnection
from bench.latencies import Latencies
from bench.websocket import ChannelConnection
from bench.workloads import Arriving, Cycling, Renewing, desks

GRANT = {"lease": "l1", "receipt": "r1"}


def reply(body: Any, status: str = "200 OK") -> bytes:
    packed = msgpack.packb(body)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/msgpack\r\nContent-Length: {len(packed)}\r\n\r\n"
    return head.encode() + packed


class Sent:
    """Stands where a transport stands; an answer is given by hand."""

    def __init__(self, connection: Any) -> None:
        self.requests: list[bytes] = []
        connection.connection_made(self)

    def write(self, data: bytes) -> None:
        self.requests.append(bytes(data))


def http() -> tuple[HttpConnection, Sent, list[Any]]:
    connection = HttpConnection("host", "key")
    return connection, Sent(connection), []


def test_a_renewal_is_a_whole_request():
    connection, sent, heard = http()
    connection.renew("l1", "r1", lambda *answer: heard.append(answer))
    head, _, body = sent.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(
        b"POST /v1/leases/l1/renew HTTP/1.1\r\nHost: host\r\nAuthorization: Bearer key\r\n"
    )
    assert f"Content-Length: {len(body)}".encode() in head
    assert msgpack.unpackb(body) == {"receipt": "r1"}


def test_an_answer_in_pieces():
    connection, _, heard = http()
    connection.renew("l1", "r1", lambda *answer: heard.append(answer))
    for byte in reply(GRANT):
        connection.data_received(bytes([byte]))
    assert heard == [("ok", GRANT)]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (reply({"code": "no_seat"}, "409 Conflict"), "no_seat"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "ok"),
    ],
)
def test_what_is_no_success_has_a_code(raw, code):
    connection, _, heard = http()
    connection.release("l1", "r1", lambda *answer: heard.append(answer[0]))
    connection.data_received(raw)
    assert heard == [code]


def test_a_connection_that_is_lost_answers_what_was_under_way():
    connection, _, heard = http()
    connection.renew("l1", "r1", lambda *answer: heard.append(answer))
    connection.connection_lost(None)
    connection.renew("l1", "r1", lambda *answer: heard.append(answer))
    assert heard == [("broken", None)] * 2


async def test_frames_of_the_channel():
    connection = ChannelConnection("host", "key")
    sent, heard = Sent(connection), []
    assert b"Sec-WebSocket-Protocol: seatd.v1" in sent.requests[0]
    connection.data_received(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
    await connection.opened
    for receipt in ("r", "r" * 300, "r" * 70_000):
        connection.renew("l1", receipt, lambda *answer: heard.append(answer))
        frame = sent.requests[-1]
        begin = {126: 8, 127: 14}.get(frame[1] & 0x7F, 6)
        assert frame[0] == 0x82
        assert frame[1] & 0x80  # masked, with the key 0
        assert frame[begin - 4 : begin] == bytes(4)
        body = msgpack.unpackb(frame[begin:])
        assert (body["op"], body["receipt"]) == ("renew", receipt)
    ok, error = ({"id": 2, "ok": {"x": "y" * 300}}, {"id": 1, "error": {"code": "lease_gone"}})
    first, second = msgpack.packb(ok), msgpack.packb(error)
    stream = b"\x82\x7e" + len(first).to_bytes(2) + first + b"\x82" + bytes([len(second)]) + second
    for at in range(0, len(stream), 7):
        connection.data_received(stream[at : at + 7])
    assert heard == [("ok", ok["ok"]), ("lease_gone", None)]
    connection.data_received(b"\x89\x02hi")
    assert sent.requests[-1] == b"\x8a\x82\0\0\0\0hi"


async def test_a_handshake_that_is_refused():
    connection = ChannelConnection("host", "key")
    Sent(connection)
    connection.data_received(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
    with pytest.raises(ConnectionError, match="401"):
        await connection.opened


class Slow:
    """A connection whose answers come after `answer_s`, and whose server stands still once, for all."""

    def __init__(self, answer_s: float, stands: tuple[float, float]) -> None:
        self._answer_s, self._stands = answer_s, stands
        self.idle: Any = None
        self.alive = True

    def renew(self, lease, receipt, answered):
        now_s = time.perf_counter()
        from_s, until_s = self._stands
        ready_s = max(now_s, until_s if from_s <= now_s < until_s else now_s) + self._answer_s

        def answer() -> None:
            answered("ok", GRANT)
            self.idle(self)

        asyncio.get_running_loop().call_later(ready_s - now_s, answer)


def measured(seconds: float, *, by_due: bool) -> Latencies:
    began_ns = loops.now_ns()
    return Latencies(began_ns, began_ns + int(seconds * 1e9), by_due=by_due)


async def test_an_open_loop_charges_a_standstill_to_all_that_were_due():
    """300 ms of standstill in a second at 500 a second: at least 120 requests waited for 60 ms and more."""
    began_s = time.perf_counter()
    connections = [Slow(0.001, (began_s + 0.3, began_s + 0.6)) for _ in range(8)]
    latencies = measured(1.0, by_due=True)
    await loops.opened(loops.Pool([[*connections]]), Renewing(desks(64, 1, "u"), 1), latencies, 500, 1)
    report = latencies.report()["all"]
    assert 400 < report["count"] < 600  # whatever the server did, so many were due
    assert report["p90_ms"] > 60
    assert report["max_ms"] > 200


async def test_a_closed_loop_does_not_and_so_is_for_capacity_alone():
    began_s = time.perf_counter()
    connections = [Slow(0.001, (began_s + 0.3, began_s + 0.6)) for _ in range(4)]
    latencies = measured(1.0, by_due=False)
    await loops.closed(loops.Pool([[*connections]]), Renewing(desks(64, 1, "u"), 1), latencies)
    assert latencies.report()["all"]["p90_ms"] < 60


async def test_what_is_never_answered_is_counted(monkeypatch):
    monkeypatch.setattr(loops, "DRAIN_S", 0.1)
    latencies = measured(0.2, by_due=True)
    mute = [Slow(60, (0, 0)) for _ in range(2)]
    await loops.opened(loops.Pool([[*mute]]), Renewing(desks(8, 1, "u"), 1), latencies, 100, 1)
    report = latencies.report()["all"]
    assert report["codes"] == {"none": report["count"]}
    assert report["count"] > 5


def test_only_what_is_due_in_time_counts_in_an_open_loop():
    latencies = Latencies(100, 200, by_due=True)
    for due_ns, answered_ns in ((50, 150), (150, 900), (200, 201)):
        latencies.add("renew", "ok", due_ns, answered_ns)
    assert latencies.report()["all"]["count"] == 1
    assert latencies.answered == 3


def test_only_what_is_answered_in_time_counts_in_a_closed_loop():
    latencies = Latencies(100, 200, by_due=False)
    for due_ns, answered_ns in ((50, 150), (150, 900), (200, 201)):
        latencies.add("renew", "ok", due_ns, answered_ns)
    assert latencies.report()["all"]["count"] == 1


def test_a_desk_has_one_request_under_way():
    held: list[Any] = []

    class Holding:
        def acquire(self, body, answered):
            held.append(answered)

        renew: Any = None
        release: Any = None

    told: list[tuple[str, str]] = []
    cycling = Cycling(desks(1, 1, "u"), 1)
    tell = lambda kind, code: told.append((kind, code))  # noqa: E731
    assert cycling.send(Holding(), 0, tell)
    assert not cycling.send(Holding(), 0, tell)
    held[0]("ok", GRANT)
    assert told == [("acquire", "ok")]


def test_everybody_arrives_once():
    class Full:
        def acquire(self, body, answered):
            answered("no_seat", None)

        renew: Any = None
        release: Any = None

    told: list[tuple[str, str]] = []
    arriving = Arriving(desks(3, 1, "u"), 1)
    tell = lambda kind, code: told.append((kind, code))  # noqa: E731
    assert [arriving.send(Full(), 0, tell) for _ in range(4)] == [True, True, True, False]
    assert told == [("denied", "no_seat")] * 3
