"""The metrics of many registries as those of one."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from seatd.workers.totals import Totals, snapshot

BUCKETS = (0.25, 1.0, 4.0)


class House:
    """One process's registry: a counter, a gauge, a histogram."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.counter = Counter("requests", "Requests.", ["code"], registry=self.registry)
        self.gauge = Gauge("channels", "Channels.", registry=self.registry)
        self.histogram = Histogram("seconds", "Seconds.", ["op"], buckets=BUCKETS, registry=self.registry)
        Info("seatd_build", "What is running.", registry=self.registry).info({"version": "1"})

    def happen(self, what: tuple[str, str, float]) -> None:
        kind, label, value = what
        if kind == "count":
            self.counter.labels(label).inc(value)
        elif kind == "set":
            self.gauge.inc(value)
        else:
            self.histogram.labels(label).observe(value)


class Shown(Collector):
    def __init__(self, families):
        self.families = list(families)

    def collect(self):
        return self.families


def lines(families: object) -> set[str]:
    return set(generate_latest(Shown(families)).decode().splitlines())


EVENTS = st.tuples(
    st.sampled_from(["count", "set", "time"]), st.sampled_from("abc"), st.integers(0, 40).map(lambda n: n / 8)
)


@given(st.lists(st.tuples(st.integers(0, 3), EVENTS), max_size=40))
def test_many_count_as_one_would_have(happened):
    """The oracle is one registry in which everything happened."""
    one, houses = House(), [House() for _ in range(4)]
    for where, what in happened:
        one.happen(what)
        houses[where].happen(what)
    totals = Totals()
    for house in houses[1:]:
        totals.add(msgpack.unpackb(msgpack.packb(snapshot(house.registry))))
    assert lines(totals.collect(houses[0].registry.collect())) == lines(one.registry.collect())


def test_the_newest_exemplar_stays():
    houses = [House() for _ in range(3)]
    for number, house in enumerate(houses):
        house.histogram.labels("a").observe(0.5, {"trace": f"t{number}"})
    totals = Totals()
    for house in (houses[2], houses[1]):
        totals.add(snapshot(house.registry))
    shown = lines(totals.collect(houses[0].registry.collect()))
    (bucket,) = [line for line in shown if 'le="1.0"' in line]
    assert 'trace="t2"' in bucket
    assert bucket.startswith('seconds_bucket{le="1.0",op="a"} 3.0')


def test_what_ended_leaves_what_only_grows():
    ended = House()
    ended.counter.labels("ok").inc(3)
    ended.gauge.set(9)
    ended.histogram.labels("a").observe(2)
    past = Totals()
    past.add(snapshot(ended.registry), only_growing=True)
    totals = Totals()
    totals.add(past.taken())
    shown = lines(totals.collect(House().registry.collect()))
    assert 'requests_total{code="ok"} 3.0' in shown
    assert 'seconds_count{op="a"} 1.0' in shown
    assert "channels 0.0" in shown


@pytest.mark.parametrize("name", ["seatd_build"])
def test_what_a_sum_says_nothing_about_is_the_parents_own(name):
    own = House()
    totals = Totals()
    totals.add(snapshot(House().registry))
    shown = lines(totals.collect(own.registry.collect()))
    assert f'{name}_info{{version="1"}} 1.0' in shown
