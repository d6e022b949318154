"""The quick way to read a line of a history gives what the careful way gives, or leaves it alone; packed leases lose nothing."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seatd.billing import historyfile
from seatd.billing.events import Event, SeatStarted
from seatd.billing.history import HistoryError
from seatd.billing.packing import end_of, has_start, packed_end, packed_start, same_start, unpacked
from seatd.billing.seatlines import quick_event
from seatd.model import Kind
from seatd.usage.intervals import FOREVER_MS

STARTED = {
    "at": "2026-03-01T08:00:00.25+01:00",
    "tenant": "acme",
    "event": "seat_started",
    "lease": "l 1",
    "user": "ana",
}
LINE = json.dumps(STARTED).encode()
texts = st.sampled_from(
    [
        "",
        "acme",
        "a b",
        "seat_started",
        "seat_ended",
        "tariff",
        "2026-03-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T00:00:60Z",
        "2026-03-01T00:00:00z",
        "service",
        "é",
        "x" * 129,
    ]
)
values = texts | st.none() | st.booleans() | st.integers(-1, 9) | st.lists(texts, max_size=1)
names = st.sampled_from([*STARTED, "tariff", "x_note", "note"])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line that is right but for a few fields, their order, and a byte."""
    fields: list[tuple[str, object]] = list(draw(st.permutations(list(STARTED.items()))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(fields)))
        fields[at : at + draw(st.integers(0, 1))] = [(draw(names), draw(values))]
    body = ",".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields)
    line = bytearray(f"{{{body}}}".encode())
    if draw(st.booleans()):
        line[draw(st.integers(0, len(line) - 1))] = draw(st.integers(0, 255))
    return bytes(line) + draw(st.sampled_from([b"", b"\n", b"\r\n", b" \n", b",\n", b"\x00\n"]))


def careful(line: bytes) -> Event | None:
    try:
        return historyfile._careful_event(line)
    except HistoryError:
        return None


@given(lines())
@example(LINE[:-1] + b', "lease": "l 1"}')
@example(LINE[:-1] + b', "tariff": ""}')
@example(LINE[:-1] + b', "tariff": null}')
@example(LINE.replace(b"l 1", b"l\x7f1"))
def test_the_quick_way_reads_only_what_is_right(line: bytes) -> None:
    quick = quick_event(line)
    if quick is not None:
        assert careful(line) == quick
        assert type(careful(line)) is type(quick)


@pytest.mark.parametrize("more", [{}, {"tariff": "service"}, {"tariff": "team"}])
def test_plain_lines_are_read_the_quick_way(more: dict[str, str]) -> None:
    said = SeatStarted(1_772_348_400_250, "acme", "l 1", "ana", more.get("tariff", ""))
    assert quick_event(json.dumps(STARTED | more).encode() + b"\n") == said
    ended = {name: STARTED[name] for name in ("tenant", "lease", "at")} | {"event": "seat_ended"}
    assert quick_event(json.dumps(ended, separators=(",", ":")).encode()) == careful(
        json.dumps(ended).encode()
    )


instants = st.integers(-62_135_683_140_000, 253_402_387_139_999)  # years 1 to 9999, with any offset
kinds = st.sampled_from(["", *Kind])


@given(instants, st.integers(0, 2**32 - 1), kinds, st.none() | instants)
def test_a_packed_lease_loses_nothing(start_ms: int, user: int, kind: str, end_ms: int | None) -> None:
    start = packed_start(start_ms, user, kind)
    whole = start if end_ms is None else start | packed_end(end_ms)
    assert unpacked(whole) == (start_ms, FOREVER_MS if end_ms is None else end_ms, user, kind == Kind.SERVICE)
    assert (end_of(whole), has_start(whole)) == (end_ms, True)
    assert end_ms is None or not has_start(packed_end(end_ms))


@given(*[st.tuples(st.integers(0, 1), st.integers(0, 1), kinds)] * 2)
def test_a_start_said_twice(one: tuple[int, int, str], other: tuple[int, int, str]) -> None:
    services = {one[2] == Kind.SERVICE, other[2] == Kind.SERVICE}
    same = one[:2] == other[:2] and len(services) == 1 and len({one[2], other[2]} - {""}) < 2
    assert same_start(packed_start(*one) | packed_end(9), packed_start(*other)) == same
