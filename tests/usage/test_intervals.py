"""Interval arithmetic against sets of milliseconds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from seatd.usage import intervals as iv

SPACE = range(-5, 40)
some = st.lists(st.tuples(st.integers(-5, 30), st.integers(-5, 30)), max_size=8)
values = st.dictionaries(st.integers(-5, 30), st.integers(0, 5), max_size=8)


def instants(intervals):
    return {at for start, end in intervals for at in range(start, end)}


def value_at(changes, at):
    return max(((t, v) for t, v in changes.items() if t <= at), default=(0, 0))[1]


def is_normal(intervals):
    flat = [edge for interval in intervals for edge in interval]
    return flat == sorted(set(flat))


@given(some)
@settings(deadline=None)
def test_union_covers_the_same_instants_with_the_fewest_intervals(spans):
    joined = iv.union(spans)
    assert instants(joined) == instants(spans)
    assert is_normal(joined)
    assert iv.union(joined) == joined


@given(some, some)
@settings(deadline=None)
def test_intersect_is_what_both_cover(left, right):
    common = iv.intersect(iv.union(left), iv.union(right))
    assert instants(common) == instants(left) & instants(right)
    assert is_normal(common)


@given(some)
@settings(deadline=None)
def test_length_hull_and_covers(spans):
    joined = iv.union(spans)
    covered = instants(spans)
    assert iv.length(joined) == len(covered)
    assert iv.hull(joined) == ((min(covered), max(covered) + 1) if covered else None)
    assert {at for at in SPACE if iv.covers(joined, at)} == covered


@given(some)
@settings(deadline=None)
def test_count_is_how_many_are_open_ends_before_starts(spans):
    counted = dict(iv.count(spans))
    for at in SPACE:
        assert value_at(counted, at) == sum(start <= at < end for start, end in spans)


@given(values, some)
@settings(deadline=None)
def test_pieces_tile_the_intervals_with_their_values(changes, spans):
    within = iv.union(spans)
    cut = list(iv.pieces(iv.steps(changes), within))
    assert all(start < end for start, end, _ in cut)
    flat = [(at, value) for start, end, value in cut for at in range(start, end)]
    assert flat == [(at, value_at(changes, at)) for at in sorted(instants(spans))]


@given(values, some, st.integers(1, 100))
@settings(deadline=None)
def test_what_is_measured_over_the_intervals(changes, spans, percent):
    steps, within, covered = iv.steps(changes), iv.union(spans), sorted(instants(spans))
    seen = [value_at(changes, at) for at in covered]
    assert iv.integral(steps, within) == sum(seen)
    assert iv.maximum(steps, within) == max(seen, default=0)
    for value in range(6):
        first = next((at for at, have in zip(covered, seen, strict=True) if have == value), None)
        assert iv.first_at(steps, value, within) == first
    least = 0
    while 100 * sum(value <= least for value in seen) < percent * len(seen):
        least += 1
    assert iv.quantile(steps, within, percent=percent) == least


@given(values, values, some)
@settings(deadline=None)
def test_where_at_least(changes, floor, spans):
    found = iv.where_at_least(iv.steps(changes), iv.steps(floor), iv.union(spans))
    expected = {at for at in instants(spans) if value_at(changes, at) >= value_at(floor, at)}
    assert instants(found) == expected
    assert is_normal(found)
