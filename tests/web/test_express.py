"""Plain requests: read as the HTTP library reads them or left to it, answered as it would have answered."""

import asyncio
import json
import random
import socket
import time
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from seatd.model import Refusal
from seatd.web.connection import ClientConnection
from seatd.web.express import Reader
from tests.servers import SeatdProcess
from tests.system.test_seats_http import acquire

KEY = "sc.acme." + "k" * 43


def request(
    method: str = "POST", path: str = "/v1/leases/l1/renew", body: bytes = b"", **headers: str
) -> bytes:
    fields = {"Host": "x", "Authorization": f"Bearer {KEY}"}
    if body:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def ends_as_the_library_says(data: bytes) -> bool:
    """Whether the request that is read as plain is the one that the library reads, whole and alone."""
    extent = Reader().read(data)
    if extent is None or extent.request is None:
        return True
    loop = asyncio.new_event_loop()
    try:
        protocol = BaseProtocol(loop)
        protocol.transport = Mock()
        messages, upgraded, tail = HttpRequestParser(protocol, loop, 2**16).feed_data(data)
        (message, payload) = messages[0]
        body = b"".join(getattr(payload, "_buffer", ()))
        return (
            len(messages) == 1
            and not upgraded
            and not tail
            and payload.is_eof()
            and body == extent.request.body
            and message.path.split("/")[3:4] == ([extent.request.lease] if extent.request.lease else [])
        )
    except BadHttpMessage:
        return False
    finally:
        loop.close()


SEEDS = [
    request(body=b'{"receipt":"r"}'),
    request(path="/v1/leases", body=b'{"user":"a","client":"b"}', Accept="application/msgpack"),
    request("DELETE", "/v1/leases/l1", Seat_Receipt="rrr"),
    request("DELETE", "/v1/leases/l1", seat_receipt="AQ-_z9", Accept="application/json"),
    request(body=b"x" * 30, Connection="keep-alive", User_Agent="some thing/1.0 (x; y)"),
]
SPICES = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n", b"\x80", b"HTTP/1.0", b"GET / HTTP/1.1\r\n\r\n", b"+", b"-1", b"%41", b"?q=1",
    b"content-length:0\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n", b" : x\r\n", b"\x0b", b"0",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(SPICES), st.integers(0, 4)), min_size=0, max_size=3
    ),
)
def test_what_is_read_as_plain_the_library_reads_alike(seed, edits):
    data = seed
    for where, spice, cut in edits:
        at = int(where * len(data))
        data = data[:at] + spice + data[at + cut :]
    assert ends_as_the_library_says(data), data


@pytest.mark.parametrize("seed", SEEDS)
def test_plain_requests_are_read(seed):
    extent = Reader().read(seed)
    assert extent is not None
    assert extent.length == len(seed)
    assert extent.request is not None


def test_a_head_that_comes_again_is_told_from_one_that_only_looks_alike():
    reader = Reader()
    first = reader.read(request(body=b'{"receipt":"r"}'))
    again = reader.read(request(body=b'{"receipt":"s"}'))
    other = reader.read(request(body=b'{"receipt":"s"}', Accept="application/msgpack"))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.request is not None
    assert again.request is not None
    assert other.request is not None
    assert again.request.head is first.request.head
    assert again.request.body == b'{"receipt":"s"}'
    assert other.request.head.msgpack is True


def test_releases_share_a_head_but_never_a_receipt():
    reader = Reader()

    def read(**more):
        extent = reader.read(request("DELETE", "/v1/leases/l1", **more))
        assert extent is not None
        assert extent.request is not None
        return extent.request.head

    first, second, bare = read(Seat_Receipt="AQ-1"), read(Seat_Receipt="AQ-2"), read()
    assert (first.receipt, second.receipt, bare.receipt) == ("AQ-1", "AQ-2", None)
    assert first.caller is second.caller is bare.caller


@pytest.mark.parametrize(
    "data",
    [
        request(body=b"{}", Transfer_Encoding="chunked"),
        request(body=b"{}", Expect="100-continue"),
        request(body=b"{}", Connection="close"),
        request(body=b"{}", Upgrade="h2c"),
        request(body=b"{}", Content_Encoding="gzip"),
        request(body=b"{}").replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
        request(body=b"{}").replace(b"Content-Length: 2", b"Content-Length: +2"),
        request(body=b"{}").replace(b"Host: x", b"Host: x\r\n folded"),
        request("DELETE", "/v1/leases/l1", Seat_Receipt="AQ", seat_Receipt="AQ"),
        request("DELETE", "/v1/leases/l1", Seat_Receipt="AQ", seat_receipt="A Q"),
        request("DELETE", "/v1/leases/l1", Seat_Receipt="AQ\r\n Q"),
        request(body=b"{}").replace(b"Host: x", b"Host : x"),
        request(body=b"{}").replace(b"Host: x\r\n", b""),
        request(body=b"{}").replace(b"Host: x", b"Host: x\ny: z"),
        b"POST /v1/leases HTTP/1.1\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_left_to_the_library(data):
    assert Reader().read(data) is None


@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/v1"),
        request("PUT", body=b"{}"),
        request(path="/v1/leases/a%2Fb/renew", body=b"{}"),
        request(path="/v1/leases/a/renew?x=1", body=b"{}"),
        request(body=b"{}", Content_Type="text/plain"),
        request("DELETE", "/v1/leases/l1", body=b"{}"),
        request(body=b"{}")[:-1],
        request(body=b"{}").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_what_is_not_plain_or_not_whole_is_handed_on(data):
    extent = Reader().read(data)
    assert extent is not None
    assert extent.request is None


class Wire:
    """A raw connection; answers are read one by one."""

    def __init__(self, server: SeatdProcess) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self.file.read(int(headers.get("content-length", 0)))

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def client(seatd: SeatdProcess):
    return seatd, seatd.tenant(f"t{time.monotonic_ns()}", tariff="team", seats=3)


def same(raw: bytes, server: SeatdProcess) -> tuple[int, Any]:
    """The answer of both ways, which must not differ in anything that a client may rely on."""
    answers = []
    for data in (raw, raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)):
        wire = Wire(server)
        wire.socket.sendall(request("GET", "/v1"))  # the first one is the library's in any case
        wire.answer()
        time.sleep(0.02)  # until it waits for another
        wire.socket.sendall(data)
        answers.append(wire.answer())
        wire.close()
    (status, headers, body), (other_status, other_headers, other_body) = answers
    ignored = {"date", "server", "connection"}
    names = {name: value for name, value in headers.items() if name not in ignored}
    expected = {name: value for name, value in other_headers.items() if name not in ignored}
    assert "server" not in headers, "not the plain way"
    assert "date" in headers
    if status >= 400:
        assert (status, names, body) == (other_status, expected, other_body)
    else:
        assert status in (other_status, 201)
        assert names.keys() == expected.keys()
        assert (
            names.get("content-type", "").partition(";")[0]
            == expected.get("content-type", "").partition(";")[0]
        )
    return status, body


def test_both_ways_answer_alike(client):
    server, key = client
    lease = acquire(server, key, "ana").body
    auth: Any = {"Authorization": f"Bearer {key}"}

    def post(path: str, body: Any, **headers: Any) -> bytes:
        return request("POST", path, json.dumps(body).encode(), **(auth | headers))

    path = f"/v1/leases/{lease['lease']}"
    assert same(post(f"{path}/renew", {"receipt": lease["receipt"]}), server)[0] == 200
    assert same(post("/v1/leases", {"user": "bob", "client": "c"}), server)[0] == 201
    for raw, status in {
        post("/v1/leases", {"user": "bob"}): 400,
        post("/v1/leases", {"user": "bob", "client": "other"}): 409,
        post("/v1/leases", {"user": "bob", "client": "other"}, Accept="application/msgpack"): 409,
        post("/v1/leases", {"user": "é", "client": "c"}): 400,
        post(f"{path}/renew", {"receipt": "nonsense"}): 400,
        post(f"{path}/renew", {}): 400,
        post(f"{path}/renew", [1]): 400,
        post(f"{path}/renew", {"receipt": lease["receipt"]}, Authorization=f"Bearer {key[:-3]}xyz"): 401,
        post(f"{path}/renew", {"receipt": lease["receipt"]}, Authorization="Basic x"): 401,
        post(f"{path}/renew", {"receipt": lease["receipt"]}, Authorization=f"Bearer {server.admin_key}"): 403,
        post("/v1/leases/other/renew", {"receipt": lease["receipt"]}): 400,
        request("DELETE", path, **auth): 400,
        request("DELETE", path, Seat_Receipt="x", **auth): 400,
    }.items():
        assert same(raw, server)[0] == status, raw
    assert same(request("DELETE", path, Seat_Receipt=lease["receipt"], **auth), server)[0] == 204
    assert same(post(f"{path}/renew", {"receipt": lease["receipt"]}), server)[0] == 410


async def test_the_library_may_go_on_after_a_pause_without_keeping_the_connection(monkeypatch):
    """It hands itself no bytes then, which are no request that could not be read."""
    served = []
    monkeypatch.setattr(ClientConnection, "_serve", lambda _, read: served.append(read))
    loop = asyncio.get_running_loop()
    made = ClientConnection(web.Application(), web.Server(Mock()), loop=loop, access_log=None)
    made.connection_made(Mock(asyncio.Transport))
    await asyncio.sleep(0)  # until it waits for a request
    made.data_received(b"")
    made.data_received(request(body=b"{}"))
    assert [read.op for read in served] == ["renew"]
    made.connection_lost(None)
    await asyncio.sleep(0)


async def test_who_goes_on_asking_after_busy_is_served_ever_later(monkeypatch):
    busy = [True]
    loop = asyncio.get_running_loop()
    made = ClientConnection(web.Application(), web.Server(Mock()), loop=loop, access_log=None)

    def serve(read):
        made._busy = True
        served_s.append(loop.time())
        if busy[0]:
            made._refuse("acquire", read.head, 0.0, Refusal("busy", retry_after_ms=500))
        else:
            made._answer("renew", 200, {}, read.head, 0.0)

    monkeypatch.setattr(ClientConnection, "_serve", lambda _, read: serve(read))
    made.connection_made(Mock(asyncio.Transport))
    await asyncio.sleep(0)
    served_s: list[float] = []
    waits, at_once, next_time = [], [], []
    for busy[0] in (True, True, True, False, False, True, True):
        served_s.clear()
        asked_s = loop.time()
        made.data_received(request(body=b"{}"))
        at_once.append(bool(served_s))
        while not served_s:
            await asyncio.sleep(0.002)
        waits.append(served_s[0] - asked_s)
        next_time.append(made._quiet_s)
    least = (
        0,
        0.05,
        0.1,
        0.2,
        0,
        0,
        0.1,
    )  # twice as long each time, and half as long after each other answer
    assert [wait >= at_least - 0.01 for wait, at_least in zip(waits, least, strict=True)] == [True] * 7
    assert at_once == [not wait for wait in least]
    assert next_time == [0.1, 0.2, 0.4, 0.2, 0.1, 0.2, 0.4]
    made.connection_lost(None)
    await asyncio.sleep(0)


def test_however_a_stream_is_cut_each_request_is_answered_once_and_in_order(client):
    server, key = client
    dice = random.Random(11)
    lease = acquire(server, key, "ana").body
    auth: Any = {"Authorization": f"Bearer {key}"}
    path = f"/v1/leases/{lease['lease']}/renew"
    kinds = {
        200: request("POST", path, json.dumps({"receipt": lease["receipt"]}).encode(), **auth),
        400: request("POST", path, b'{"receipt":"POST /v1/leases/x/renew HTTP/1.1"}', **auth),
        401: request("POST", path, b'{"receipt":"x"}', Authorization="Bearer nobody"),
        404: request("GET", "/v1/nothing", **auth),
        409: request("POST", "/v1/leases", b'{"user":"ana","client":"elsewhere"}', **auth),
    }
    for _ in range(60):
        wanted = [dice.choice([*kinds]) for _ in range(dice.randrange(1, 7))]
        stream = b"".join(kinds[status] for status in wanted)
        cuts = sorted(dice.sample(range(1, len(stream)), dice.randrange(0, 6)))
        if dice.random() < 0.5:  # at the seams
            seams = [len(b"".join(kinds[s] for s in wanted[:n])) for n in range(1, len(wanted))]
            cuts = sorted({*cuts, *seams})
        wire = Wire(server)
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            wire.socket.sendall(stream[start:end])
            time.sleep(dice.choice([0, 0.002]))
        assert [wire.answer()[0] for _ in wanted] == wanted
        wire.close()


def test_who_is_being_answered_when_the_server_stops_gets_the_answer(new_seatd):
    server: SeatdProcess = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=1)
    acquire(server, key, "ana")
    wire = Wire(server)
    wire.socket.sendall(request("GET", "/v1"))
    wire.answer()
    body = b'{"user":"bob","client":"c","wait_ms":30000}'
    wire.socket.sendall(request("POST", "/v1/leases", body, Authorization=f"Bearer {key}"))
    time.sleep(0.3)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10
    status, _, said = wire.answer()
    assert (status, json.loads(said)["code"]) == (409, "no_seat")
    wire.close()
