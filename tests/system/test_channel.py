"""Channels under faults: a drain, a store that is lost, an end that reads nothing, bytes that mean nothing."""

import asyncio
import random
import signal
import socket
import time

import aiohttp
import msgpack
import pytest

from tests.servers import SeatdProcess, call
from tests.valkey import ValkeyServer
from tests.web.channels import SUBPROTOCOL, line, lines


async def test_a_drain_tells_everybody_answers_what_is_under_way_and_ends_well(new_seatd):
    server: SeatdProcess = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=20)
    async with lines(server.url, key, 12) as desks:
        taken = [await desk.ok("acquire", user=f"u{n}", client="c1") for n, desk in enumerate(desks)]
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        pushes = [await desk.push() for desk in desks]
        assert {push["push"] for push in pushes} == {"drain"}
        assert all(push["within_ms"] > 0 for push in pushes)
        # Who is still here is served until it goes or is closed.
        for desk, lease in zip(desks, taken, strict=True):
            assert await desk.ok("renew", lease=lease["lease"], receipt=lease["receipt"])
        for desk in desks[:6]:
            await desk.socket.close()
        assert [await desk.closed() for desk in desks[6:]] == [1001] * 6
    assert await asyncio.to_thread(server.process.wait, 20) == 0
    assert '"level": "error"' not in server.log
    server.start()
    async with line(server.url, key) as desk:
        pairs = [[lease["lease"], lease["receipt"]] for lease in taken]
        assert all("lease" in item for item in await desk.ok("renew", leases=pairs))


async def test_a_drain_does_not_wait_for_who_has_gone(new_seatd):
    server: SeatdProcess = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=20)
    async with lines(server.url, key, 3) as desks:
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        for desk in desks:
            assert (await desk.push())["push"] == "drain"
            await desk.socket.close()
        began = time.monotonic()
        assert await asyncio.to_thread(server.process.wait, 20) == 0
        assert time.monotonic() - began < 4


async def test_who_has_a_channel_is_asked_to_renew_after_the_store_was_lost(new_seatd):
    store = ValkeyServer()
    store.start()
    try:
        server: SeatdProcess = new_seatd("--store", store.url).start()
        key = server.tenant("acme", tariff="team", seats=5, lease_ttl_ms=30_000)
        async with line(server.url, key) as desk:
            lease = await desk.ok("acquire", user="ana", client="c1")
            await asyncio.to_thread(store.kill)
            await asyncio.to_thread(store.start)
            push = await desk.push(15)
            assert push["push"] == "renew"
            renewed = await desk.ok("renew", lease=lease["lease"], receipt=lease["receipt"])
            assert renewed["expires_ms"] >= lease["expires_ms"]
            refused = await desk.refused("acquire", user="bob", client="c1")
            assert refused["code"] == "learning"
            # News are heard over a new connection.
            await asyncio.sleep(1)
            path = f"/v1/tenants/acme/leases/{lease['lease']}"
            assert (await asyncio.to_thread(server.admin, "DELETE", path)).status == 200
            assert (await desk.push())["push"] == "revoked"
    finally:
        store.remove()


async def test_while_the_store_is_away_frames_are_refused_and_the_socket_stays(new_seatd):
    store = ValkeyServer()
    store.start()
    try:
        server: SeatdProcess = new_seatd("--store", store.url).start()
        key = server.tenant("acme", tariff="team", seats=5)
        async with line(server.url, key) as desk:
            lease = await desk.ok("acquire", user="ana", client="c1")
            await asyncio.to_thread(store.kill)
            refused = await desk.refused("renew", lease=lease["lease"], receipt=lease["receipt"])
            assert refused["code"] == "store_unavailable"
            items = await desk.ok("renew", leases=[[lease["lease"], lease["receipt"]]])
            assert items[0]["error"]["code"] == "store_unavailable"
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with line(server.url, key):
                    pass
            assert caught.value.status == 503
            await asyncio.to_thread(store.start)
            assert (await desk.push(15))["push"] == "renew"
    finally:
        store.remove()


async def test_an_end_that_takes_no_answers_is_dropped_and_nobody_else_notices(new_seatd):
    server: SeatdProcess = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=300)
    host, port = server.url.removeprefix("http://").split(":")
    async with line(server.url, key) as other:
        theirs = await other.ok("acquire", user="other", client="c1")
        async with line(server.url, key) as desk:
            ids = [await desk.send("acquire", user=f"u{n}", client="c1") for n in range(256)]
            taken = [(await desk.answer(each))["ok"] for each in ids]
        pairs = [[lease["lease"], lease["receipt"]] for lease in taken]
        payload = msgpack.packb({"id": 1, "op": "renew", "leases": pairs})
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(40)
        deaf.connect((host, int(port)))
        deaf.sendall(
            f"GET /v1/channel HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        await asyncio.sleep(0.3)
        frame = b"\x82\xff" + len(payload).to_bytes(8, "big") + bytes(4) + payload

        def shout() -> float:
            began = time.monotonic()
            with deaf:
                while time.monotonic() < began + 40:
                    try:
                        deaf.sendall(frame)
                    except (TimeoutError, OSError):
                        break
            return time.monotonic() - began

        shouting = asyncio.create_task(asyncio.to_thread(shout))
        slowest = 0.0
        while not shouting.done():
            began = time.monotonic()
            await other.ok("renew", lease=theirs["lease"], receipt=theirs["receipt"])
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.05)
        assert await shouting < 30
        assert slowest < 1
        assert "channel dropped" in server.log
        resident = next(
            line_.split()[1]
            for line_ in call("GET", f"{server.internal_url}/metrics").raw.decode().splitlines()
            if line_.startswith("process_resident_memory_bytes")
        )
        assert float(resident) < 250 * 2**20


async def test_bytes_that_mean_nothing_hurt_nobody(seatd):
    key = seatd.tenant("fuzzed", tariff="team", seats=5)
    dice = random.Random(4)
    good = msgpack.packb({"id": 1, "op": "renew", "lease": "l", "receipt": "r" * 60})
    async with line(seatd.url, key) as other:
        lease = await other.ok("acquire", user="ana", client="c1")
        for _ in range(60):
            async with line(seatd.url, key) as desk:
                for _ in range(8):
                    raw = bytearray(good)
                    for _ in range(dice.randrange(4)):
                        raw[dice.randrange(len(raw))] = dice.randrange(256)
                    await desk.socket.send_bytes(bytes(raw[: dice.randrange(1, len(raw) + 1)]))
        # And what is no WebSocket at all, once the handshake is done.
        for _ in range(20):
            async with line(seatd.url, key) as desk:
                transport = desk.socket.get_extra_info("socket")
                assert transport is not None
                writer = desk.socket._writer.transport
                writer.write(dice.randbytes(dice.randrange(1, 200)))
                await asyncio.sleep(0.005)
        assert await other.ok("renew", lease=lease["lease"], receipt=lease["receipt"])
    assert "frame failed" not in seatd.log
    assert "Traceback" not in seatd.log
