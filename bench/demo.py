"""A call centre's day in half a minute, against a real server: `make demo`.

What is shown comes from the server's answers.  Ends with status 1 where something was not as it should be.
"""

import argparse
import asyncio
import contextlib
import csv
import io
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from bench.clock import DayClock
from bench.day import BACK, DESK, HOT, NAMED, SOCIAL, Day, live, prepare
from bench.screen import Screen
from bench.server import AwayError, Server

LOOK_S = 0.25
SETTLE_S = 15.0
TENANTS = (DESK, BACK, HOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the day; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=24.0, help="for the day from eight to six (%(default)s)"
    )
    parser.add_argument("--people", type=int, default=60, help="at the help desk (%(default)s)")
    parser.add_argument("--seats", type=int, default=50, help="for them (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        return asyncio.run(_demo(options.seconds, options.people, options.seats))
    except KeyboardInterrupt:
        return 130


async def _demo(seconds: float, people: int, seats: int) -> int:
    screen = Screen()
    screen.console.print(
        f"{people} people, {seats} floating seats; {len(NAMED)} named seats; a hotline of two."
    )
    async with Server() as server:
        clock = DayClock(seconds)
        day = Day(server, clock, lambda line: screen.tell(clock.label, line), people, seats)
        await prepare(day, (files("seatd.catalogue") / "example.toml").read_text())
        day.clock = clock = DayClock(seconds)
        with screen:
            watch = asyncio.create_task(_watch(day, screen))
            await live(day)
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        await _settled(day)
        await _bill(day, screen)
    for line in day.wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    screen.console.print("Something was not as it should be." if day.wrong else "All was as it should be.")
    return 1 if day.wrong else 0


async def _watch(day: Day, screen: Screen) -> None:
    """Look at every tenant, again and again; more seats in use than there are is wrong."""
    peaks = dict.fromkeys(TENANTS, 0)
    while True:
        rows = {tenant: await _looked_at(day, tenant, peaks) for tenant in TENANTS}
        screen.show(day.clock.label, rows)
        held = sum(seat.held for seat in day.sitting.values())
        day.check(held <= day.seats, f"{held} people believe in {day.seats} seats")
        await asyncio.sleep(LOOK_S)


async def _looked_at(day: Day, tenant: str, peaks: dict[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {"in_use": None, "capacity": 0, "held": "", "refused": ""}
    with contextlib.suppress(AwayError):
        said = await day.server.admin("GET", f"/v1/tenants/{tenant}")
        row |= {"in_use": said["in_use"], "capacity": said["capacity"] or 0}
        peaks[tenant] = max(peaks[tenant], row["in_use"] or 0)
        day.check(
            (row["in_use"] or 0) <= row["capacity"],
            f"{tenant}: {row['in_use']} seats in use of {row['capacity']}",
        )
    if tenant == DESK:
        row |= {"held": sum(seat.held for seat in day.sitting.values()), "refused": len(day.refused)}
    return row | {"peak": peaks[tenant]}


async def _settled(day: Day) -> None:
    """Wait until everybody has gone and the ledger knows it."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while (left := await _unfinished(day)) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - no event
        await asyncio.sleep(LOOK_S)
    day.check(not left, f"not ended in the ledger: {left}")


async def _unfinished(day: Day) -> list[str]:
    left = []
    for tenant in TENANTS:
        if (await day.server.admin("GET", f"/v1/tenants/{tenant}"))["in_use"]:
            left.append(tenant)
        leases = (await day.server.admin("GET", f"/v1/tenants/{tenant}/usage?intervals=true&limit=1000"))[
            "items"
        ]
        left += [f"{tenant}/{lease['lease']}" for lease in leases if lease["ended_ms"] is None]
    return left


async def _bill(day: Day, screen: Screen) -> None:
    """Show what the month comes to, as the server rates it, and check what it rests on."""
    month = f"{datetime.now(UTC).astimezone(ZoneInfo('Europe/Berlin')):%Y-%m}"
    usage = _rows(await day.server.text(f"/v1/billing/{month}/usage.csv"))
    charges = _rows(await day.server.text(f"/v1/billing/{month}/charges.csv"))
    preview = await day.server.admin("GET", f"/v1/billing/{month}")
    shown = ("tenant", "used_peak", "booked_peak", "seat_hours", "distinct_users", "denied", "full_minutes")
    screen.table(f"Usage of {month}", _right(shown, 1), [[row[name] for name in shown] for row in usage])
    shown = ("tenant", "product", "metric", "quantity", "unit_price", "weight", "net")
    screen.table(
        f"Charges of {month}, as of now", _right(shown, 3), [[row[n] for n in shown] for row in charges]
    )
    totals = [[each["tenant"], each["net"], each["vat"], each["gross"]] for each in preview["tenants"]]
    totals.append(["all", preview["net"], preview["vat"], preview["gross"]])
    screen.table(
        f"Preview in {preview['currency']}, {preview['price_list']}",
        _right(("tenant", "net", "vat", "gross"), 1),
        totals,
    )
    _checked(day, usage, charges, preview)


def _checked(day: Day, usage: list[dict[str, str]], charges: list[dict[str, str]], preview: Any) -> None:
    peaks = {row["tenant"]: int(row["used_peak"]) for row in usage}
    denied = {row["tenant"]: int(row["denied"]) for row in usage}
    expected = min(day.people, day.seats)
    day.check(peaks[DESK] == expected, f"the ledger's peak of {DESK} is {peaks[DESK]}, not {expected}")
    day.check(peaks[HOT] == 2, f"the ledger's peak of {HOT} is {peaks[HOT]}, not 2")
    day.check(denied[DESK] >= len(day.refused), f"{denied[DESK]} refusals are recorded of {len(day.refused)}")
    day.check(bool(day.refused) == (day.people > day.seats), f"{len(day.refused)} people were refused")
    lines = {(row["tenant"], row["product"]): row["quantity"] for row in charges}
    for line, quantity in {
        (DESK, "team"): day.seats,
        (DESK, "social"): min(SOCIAL, day.people),
        (DESK, "ocr"): 1,
        (BACK, "agent"): len(NAMED),
        (HOT, "team"): 2,
    }.items():
        day.check(lines.get(line) == str(quantity), f"{line} is charged {lines.get(line)}, not {quantity}")
    day.check(not preview["gaps"], f"the ledger has gaps: {preview['gaps']}")


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _right(names: Sequence[str], start: int) -> list[str]:
    return [f"{name}#" if at >= start else name for at, name in enumerate(names)]


if __name__ == "__main__":
    sys.exit(main())
