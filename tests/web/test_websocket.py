"""The WebSocket's bytes, beside another implementation: what one writes the other reads, and what one refuses too."""

import asyncio
import itertools
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp._websocket.reader_py import WebSocketDataQueue, WebSocketReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_websocket import WebSocketError
from hypothesis import given, settings
from hypothesis import strategies as st

from seatd.web import websocket
from seatd.web.websocket import BrokenError, Incoming, accepted, closing, code_of, frame, unmasked

MAX = 1_000
MASKS = st.binary(min_size=4, max_size=4)


def sent(opcode: int, payload: bytes, mask: bytes = b"\1\2\3\4", *, final: bool = True) -> bytes:
    """A frame as a client sends it."""
    raw = bytearray(frame(opcode, payload))
    raw[0] = (0x80 if final else 0) | opcode
    raw[1] |= 0x80
    head = {126: 4, 127: 10}.get(raw[1] & 0x7F, 2)
    return bytes(raw[:head]) + mask + unmasked(mask, bytes(raw[head:]))


def read(data: bytes, cuts: list[int]) -> tuple[list[tuple[int, bytes]], int]:
    """Every message, and the code of the break; 0 where there was none."""
    incoming = Incoming(MAX)
    found: list[tuple[int, bytes]] = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    try:
        for start, end in itertools.pairwise(edges):
            incoming.feed(data[start:end])
            while (message := incoming.next()) is not None:
                found.append(message)
    except BrokenError as error:
        return found, error.code
    return found, 0


def read_by_peer(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    loop = asyncio.new_event_loop()
    try:
        protocol = BaseProtocol(loop)
        protocol.transport = Mock()
        queue = WebSocketDataQueue(protocol, 2**20, loop=loop)
        reader = WebSocketReader(queue, MAX, compress=False, decode_text=False)
        reader.feed_data(data)
        found: list[tuple[int, bytes]] = []
        while queue._buffer:
            message: Any = queue._buffer.popleft()[0]
            payload = bytes(message.data) if isinstance(message.data, bytes | bytearray) else b"?"
            found.append((int(message.type), payload))
        error = queue.exception()
        return found, error.code if isinstance(error, WebSocketError) else 0
    finally:
        loop.close()


FRAMES = st.builds(
    sent,
    st.sampled_from([0, 1, 2, 2, 2, 8, 9, 10, 3, 11]),
    st.one_of(st.binary(max_size=140), st.integers(0, 1_200).map(bytes)),
    MASKS,
    final=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(parts=st.lists(FRAMES, max_size=6), cuts=st.lists(st.integers(0, 3_000), max_size=6))
def test_messages_are_read_as_the_peer_reads_them(parts, cuts):
    data = b"".join(parts)
    ours, broke = read(data, cuts)
    theirs, peer_broke = read_by_peer(data)
    assert broke or not peer_broke or _closes(ours)  # where the peer is more lenient, so be it
    if not broke and not peer_broke:
        assert [m for m in ours if m[0] != 8] == [m for m in theirs if m[0] != 8]


def _closes(messages: list[tuple[int, bytes]]) -> bool:
    """What a close may hold is looked at by `code_of`, not while reading."""
    return any(opcode == websocket.CLOSE for opcode, _ in messages)


@given(mask=MASKS, payload=st.binary(max_size=600))
def test_a_mask_taken_off_twice_is_none(mask, payload):
    assert unmasked(mask, unmasked(mask, payload)) == payload
    assert unmasked(mask, payload) == bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_no_bytes_bring_down_the_reader(data, cuts):
    read(data, cuts)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(2, b"x"), 1002),  # not masked
        (b"\xc2\x80\0\0\0\0", 1002),  # an extension's bit
        (b"\x83\x80\0\0\0\0", 1002),  # no such opcode
        (sent(9, b"x", final=False), 1002),
        (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), 1002),
        (sent(0, b"x"), 1002),  # nothing to continue
        (sent(2, b"x", final=False) + sent(2, b"y"), 1002),
        (sent(2, bytes(MAX + 1)), 1009),
        (sent(2, bytes(MAX), final=False) + sent(0, b"x"), 1009),
        (b"\x82\xff" + (2**62).to_bytes(8, "big") + bytes(4), 1009),
    ],
)
def test_what_breaks_the_protocol_is_told_apart(data, code):
    assert read(data, []) == ([], code)


def test_pieces_are_put_together_and_controls_come_between():
    data = sent(2, b"one ", final=False) + sent(9, b"ping") + sent(0, b"", final=False) + sent(0, b"two")
    assert read(data, [3, 9]) == ([(9, b"ping"), (2, b"one two")], 0)


def test_the_handshake_of_the_standard_is_accepted():
    headers = {
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "WebSocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert accepted(headers) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    for name, wrong in {
        "Connection": "close",
        "Upgrade": "h2c",
        "Sec-WebSocket-Key": "short",
        "Sec-WebSocket-Version": "8",
    }.items():
        assert accepted(headers | {name: wrong}) is None
        assert accepted({key: value for key, value in headers.items() if key != name}) is None


def test_closing_says_why():
    assert closing(4401, "unauthorized") == b"\x88\x0e\x11\x31unauthorized"
    assert len(closing(4400, "x" * 500)) == 127
    assert code_of(b"") == 1005
    assert code_of(b"\x03\xe8bye") == 1000
    for payload in (b"\x03", b"\0\0", b"\x03\xed", b"\x27\x10"):
        with pytest.raises(BrokenError):
            code_of(payload)
