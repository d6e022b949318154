"""More offered than can be served: whoever sits keeps the seat, and the flood is told to come later."""

import asyncio
import time
from typing import Any

import msgpack

from tests.servers import SeatdProcess
from tests.web.channels import Line, line, lines

FLOODS, FLOOD_S = 6, 5.0
DESKS = 20


async def flood(desk: Line, number: int, until_s: float, told: list[dict[str, Any]]) -> None:
    """Ask for seats, many at a time and without a pause."""

    async def shout() -> None:
        for at in range(10**6):
            if time.monotonic() > until_s:
                return
            user = f"u{number}-{at % 4_000}"
            frame = {"id": at, "op": "acquire", "user": user, "client": "c"}
            await desk.socket.send_bytes(msgpack.packb(frame))
            if at % 64 == 0:
                await asyncio.sleep(0)

    async def listen() -> None:
        while True:
            told.append(await desk.message(20))

    listening = asyncio.create_task(listen())
    await shout()
    await asyncio.sleep(1)
    listening.cancel()


async def work(
    desk: Line, lease: dict[str, Any], until_s: float, refused: list[Any], slowest: list[float]
) -> None:
    """Renew a seat ten times a second, then give it back."""
    while time.monotonic() < until_s:
        began = time.monotonic()
        answer = await desk.answer(await desk.send("renew", **held(lease)), 30)
        slowest.append(time.monotonic() - began)
        if "error" in answer:
            refused.append(answer["error"])
        else:
            lease |= answer["ok"]
            assert lease["renew_after_ms"] < lease["ttl_ms"] / 2
        await asyncio.sleep(0.1)
    answer = await desk.answer(await desk.send("release", **held(lease)), 30)
    if "error" in answer:
        refused.append(answer["error"])


def held(lease: dict[str, Any]) -> dict[str, Any]:
    return {"lease": lease["lease"], "receipt": lease["receipt"]}


async def test_a_flood_of_acquires_refuses_nobody_who_sits(new_seatd):
    server: SeatdProcess = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=50)
    other = server.tenant("floods", tariff="team", seats=100_000)
    told: list[dict[str, Any]] = []
    refused: list[Any] = []
    slowest: list[float] = []
    async with lines(server.url, key, DESKS) as desks, lines(server.url, other, FLOODS) as floods:
        taken = [await desk.ok("acquire", user=f"w{n}", client="c") for n, desk in enumerate(desks)]
        until_s = time.monotonic() + FLOOD_S
        await asyncio.gather(
            *(work(desk, lease, until_s, refused, slowest) for desk, lease in zip(desks, taken, strict=True)),
            *(flood(desk, n, until_s, told) for n, desk in enumerate(floods)),
        )
    # A machine that does not get round to the store in time is another matter than load.
    assert [problem for problem in refused if problem["code"] != "store_unavailable"] == []
    shed = [each["error"] for each in told if "error" in each]
    assert {problem["code"] for problem in shed} <= {"busy", "store_unavailable"}
    assert all(problem["retry_after_ms"] > 0 for problem in shed)
    assert sum("ok" in each for each in told) > 200
    assert max(slowest) < 5
    # When it is over everybody is served as ever.
    async with line(server.url, key) as desk:
        deadline = time.monotonic() + 5
        while "error" in await desk.ask("acquire", user="late", client="c"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    assert '"level": "error"' not in server.log
