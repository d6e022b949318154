"""The figures that the measurements come to, each beside the one to reach.

Pure: reads what was found, by part; a figure whose part was not measured is left out.  Ratios are of one run alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; `at_least` tells whether more or less is better, `aim` None where none is set."""

    what: str
    value: float
    unit: str
    aim: float | None
    of: str
    at_least: bool

    @property
    def met(self) -> bool | None:
        """Tell whether the aim was reached; None where there is none."""
        if self.aim is None:
            return None
        return self.value >= self.aim if self.at_least else self.value <= self.aim

    def view(self) -> dict[str, Any]:
        """Lay it out for programs."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "aim": self.aim,
            "better": "more" if self.at_least else "less",
            "met": self.met,
            "of": self.of,
        }


def figures(found: Found) -> list[Figure]:
    """Work every figure out whose parts were measured."""
    return [figure for family in FAMILIES for figure in family(found)]


def _least(what: str, value: float, aim: float | None, of: str, unit: str = "x") -> Figure:
    return Figure(what, round(value, 3), unit, aim, of, at_least=True)


def _most(what: str, value: float, aim: float | None, of: str, unit: str = "x") -> Figure:
    return Figure(what, round(value, 3), unit, aim, of, at_least=False)


def _per_s(counted: Found) -> float:
    return float(counted["all"]["per_s"])


def _bare(found: Found, what: str) -> float:
    """Take the mean of the bare handler's runs: what the machine did meanwhile shows in their difference."""
    bare = found["http"]["bare"]
    return (_per_s(bare[what]) + _per_s(bare[f"{what}_after"])) / 2


def _over(ours: float, theirs: float) -> str:
    return f"{ours:,.0f} / {theirs:,.0f} a second"


def _http(found: Found) -> Iterator[Figure]:
    if "http" not in found:
        return
    bare, ours = found["http"]["bare"], found["http"]["seatd"]
    renew, cycle = _per_s(ours["renew"]), _per_s(ours["cycle"])
    yield _least(
        "renew over HTTP / bare handler",
        renew / _bare(found, "renew"),
        0.90,
        _over(renew, _bare(found, "renew")),
    )
    yield _least(
        "acquire and release over HTTP / bare handler",
        cycle / _bare(found, "cycle"),
        0.60,
        _over(cycle, _bare(found, "cycle")),
    )
    for name, text in (("renew", "a renewal"), ("cycle", "an acquire or release")):
        used, theirs = ours[name]["cpu_us"], sum(bare[name]["cpu_us"].values())
        parts = " + ".join(f"{us:.0f} {who}" for who, us in used.items())
        yield _most(
            f"CPU {text} over HTTP / bare handler",
            sum(used.values()) / theirs,
            None,
            f"{parts} / {theirs:.0f} us",
        )
    lone, p50, everysec = (
        each["all"]["p50_ms"] for each in (bare["pulse"], ours["pulse"], ours["pulse_everysec"])
    )
    yield _most(
        "unloaded renewal, p50 / bare p50, fsync always", p50 / lone, 10, f"{p50:.2f} / {lone:.2f} ms"
    )
    yield _most(
        "unloaded renewal, p50 / bare p50, everysec", everysec / lone, 4, f"{everysec:.2f} / {lone:.2f} ms"
    )
    theirs, p99 = bare["half"]["all"]["p99_ms"], ours["half"]["all"]["p99_ms"]
    offered = f"{p99:.2f} / {theirs:.2f} ms at {ours['half']['offered_per_s']:,.0f} a second"
    yield _most("p99 of renewals at half the capacity / bare", p99 / theirs, 2, offered)


def _peers(found: Found) -> Iterator[Figure]:
    if "http" not in found:
        return
    ours = found["http"]["seatd"]
    if "script" in found:
        renew, theirs = _per_s(ours["renew"]), _per_s(found["script"]["renew"])
        yield _least("renew over HTTP / one script call a request", renew / theirs, 2.5, _over(renew, theirs))
    if "sql" in found:
        cycle = _per_s(ours["cycle_in_use"])
        theirs, design = max((_per_s(each["cycle"]), name) for name, each in found["sql"].items())
        what = "acquire and release / PostgreSQL, 5,000 seats in use"
        yield _least(what, cycle / theirs, 4, f"{_over(cycle, theirs)} ({design})")


def _channel(found: Found) -> Iterator[Figure]:
    if "channel" not in found or "http" not in found:
        return
    bare = _bare(found, "renew")
    for what, name, aim in (
        ("renew over the channel, one lease a frame / bare HTTP handler", "renew", 1.8),
        ("renew over the channel, 256 leases a frame / bare HTTP handler", "gateway", None),
    ):
        ours = _per_s(found["channel"][name])
        yield _least(what, ours / bare, aim, _over(ours, bare))


def _store(found: Found) -> Iterator[Figure]:
    for row in found.get("scripts", []):
        what = f"store CPU a renewal, batches of {row['batch']}, fsync {row['fsync']}"
        aim = 5.0 if row["fsync"] == "always" else None
        yield _most(what, row["cpu_us"], aim, f"{row['per_s']:,.0f} renewals a second", "us")
    for name, unit, text in (("sizes", "leases", "leases a tenant"), ("tenants", "tenants", "tenants")):
        rows = found.get(name)
        if rows:
            least, largest = rows[0], max(rows, key=lambda row: row["cpu_us"])
            what = f"store CPU a renewal, {least[unit]:,} to {rows[-1][unit]:,} {text}, dearest / first"
            of = f"{largest['cpu_us']:.1f} us at {largest[unit]:,} / {least['cpu_us']:.1f} us"
            yield _most(what, largest["cpu_us"] / least["cpu_us"], 1.5, of)


def _many(found: Found) -> Iterator[Figure]:
    if "many" in found:
        few, many = found["many"]
        us, first_us = (sum(row["cpu_us"].values()) for row in (many, few))
        parts = " + ".join(f"{us:.0f} {who}" for who, us in many["cpu_us"].items())
        what = f"CPU a renewal over HTTP, {many['tenants']:,} tenants / one"
        yield _most(what, us / first_us, 1.5, f"{parts} / {first_us:.0f} us")


def _memory(found: Found) -> Iterator[Figure]:
    if "memory" in found:
        row = found["memory"]
        yield _most("store memory a live lease", row["bytes"], 450, f"{row['leases']:,} leases", "B")
    if "idle" in found:
        row = found["idle"]
        of = f"{row['channels']:,} channels"
        yield _most("resident memory of seatd an idle channel", row["bytes"] / 1024, 20, of, "KiB")


def _pressure(found: Found) -> Iterator[Figure]:
    if "storm" in found:
        storm = found["storm"]
        users = f"{storm['users']:,} users of 50 tenants within 2 s"
        yield _most("login storm: not answered, or wrongly", storm["wrong"], 0, users, "")
        for kind, text in (("granted", "grants"), ("denied", "denials")):
            if storm[kind]:
                of = f"{storm[kind]['count']:,} {text}"
                yield _most(f"login storm: p99 of {text}", storm[kind]["p99_ms"], 250, of, "ms")
    if "overload" in found:
        over = found["overload"]
        good, capacity = over["goodput_per_s"], over["capacity_per_s"]
        of = f"{good:,.0f} of {capacity:,.0f} a second, {over['offered_per_s']:,.0f} offered"
        yield _least("twice the capacity offered: goodput / capacity", good / capacity, 0.85, of)
        of = f"of {over['renewals']['count']:,} renewals"
        yield _most("twice the capacity offered: renewals refused", over["renewals_refused"], 0, of, "")


def _ledger(found: Found) -> Iterator[Figure]:
    for row in found.get("ledger", []):
        what = f"usage events into the ledger, {row['database']}"
        yield _least(what, row["per_s"], 20_000, f"{row['events']:,} events", "/s")


def _money(found: Found) -> Iterator[Figure]:
    if "rating" in found:
        rating = found["rating"]
        peaks, month = rating["peaks"]["seconds"], f"a month of {rating['leases']:,} leases"
        sources = [(f"the ledger, {name}", run, 10) for name, run in rating["ledger"].items()]
        for name, run, aim in [*sources, ("a history file", rating["file"], 40)]:
            of = f"{run['seconds']:.1f} / {peaks:.1f} s"
            yield _most(f"{month}, rated from {name} / DuckDB's peaks", run["seconds"] / peaks, aim, of)
            of = f"beside {rating['peaks']['rss_bytes'] / 2**20:.0f} MiB"
            yield _most(f"peak memory of that, {name}", run["rss_bytes"] / 2**20, 300, of, "MiB")
    for name, row in found.get("closing", {}).get("databases", {}).items():
        alone, beside = row["alone"]["p99_ms"], max(each["p99_ms"] for each in row["beside"])
        limit = 1.5 if name == "PostgreSQL" else None
        state = "closed by then" if row["closed"] else "still being closed"
        of = f"{beside:.2f} / {alone:.2f} ms, {row['seconds']:.0f} s beside, {state}"
        yield _most(
            f"p99 of renewals beside the close of a month / without, {name}", beside / alone, limit, of
        )


FAMILIES: tuple[Callable[[Found], Iterator[Figure]], ...] = (
    _http,
    _peers,
    _channel,
    _store,
    _many,
    _memory,
    _pressure,
    _ledger,
    _money,
)
