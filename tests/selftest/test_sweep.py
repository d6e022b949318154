"""The sweep against counting by hand, instant by instant."""

from hypothesis import given
from hypothesis import strategies as st

from seatd.selftest.history import Stretch
from seatd.selftest.sweep import covers, joined, levels, most

SPAN = 40
stretches = st.lists(
    st.builds(
        lambda who, since, length: Stretch(who, since, since + length),
        st.sampled_from("abcd"),
        st.integers(0, SPAN),
        st.integers(-2, 12),
    ),
    max_size=12,
)


def there(found: list[Stretch], at: int) -> int:
    return len({each.who for each in found if each.since <= at < each.until})


@given(stretches)
def test_levels_are_what_is_counted_at_every_instant(found):
    heights = {level.at: level.height for level in levels(found)}
    height = 0
    for at in range(SPAN + 20):
        height = heights.get(at, height)
        assert height == there(found, at)


@given(stretches, st.integers(0, SPAN + 15), st.integers(0, 10))
def test_the_most_within_a_window(found, since, length):
    until = since + length
    assert most(levels(found), since, until).height == max(there(found, at) for at in range(since, until + 1))


@given(stretches)
def test_the_most_of_all(found):
    assert most(levels(found)).height == max(there(found, at) for at in range(SPAN + 20))


@given(stretches, st.integers(-1, SPAN + 15))
def test_whether_one_is_there(found, at):
    mine = joined(each for each in found if each.who == "a")
    assert covers(mine, at) == any(each.who == "a" and each.since <= at < each.until for each in found)
