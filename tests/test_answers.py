"""Answers are counted and timed as the metrics library would."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from seatd.telemetry import Answers

SECONDS = st.one_of(st.sampled_from(Answers.BOUNDS), st.integers(0, 4_000).map(lambda n: n / 1_000))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ok", "busy"]), SECONDS), max_size=40))
def test_answers_are_counted_as_the_library_counts(answered):
    library, own = CollectorRegistry(), CollectorRegistry()
    counter = Counter("seatd_requests_total", "Client requests answered.", ["op", "code"], registry=library)
    histogram = Histogram(
        "seatd_request_duration_seconds",
        "Time from reading a client request to its answer.",
        ["op"],
        buckets=Answers.BOUNDS,
        registry=library,
    )
    answers = Answers()
    own.register(answers)
    for op in "ab":
        answers.declare(op)
        counter.labels(op, "ok")
        histogram.labels(op)
    for op, code, seconds in answered:
        answers.note(op, code, seconds)
        counter.labels(op, code).inc()
        histogram.labels(op).observe(seconds)
    assert lines(own) == lines(library)


def lines(registry: CollectorRegistry) -> set[str]:
    """What is shown, sums to the nanosecond; when a series was made is not looked at."""
    shown = set()
    for line in generate_latest(registry).decode().splitlines():
        name, _, value = line.rpartition(" ")
        if "_created" not in line:
            shown.add(f"{name} {round(float(value), 9)}" if not line.startswith("#") else line)
    return shown
