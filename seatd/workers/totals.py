"""The metrics of many processes as those of one: what each counts is added up, exemplars and all.

Every process keeps a registry of its own.  A worker that ends hands on what only grows, so that no counter ever falls.
Nothing here knows how a snapshot travels.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from seatd.telemetry import REGISTRY

NOT_ADDED: Final = frozenset(
    {
        "process_max_fds",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "python_info",
        "seatd_build",
    }
)
"""What a sum would say nothing about: the parent's own is shown."""
GROWING: Final = frozenset({"counter", "histogram"})

Snapshot = list[list[Any]]
"""Families as they travel: name, text, kind, samples of (name, labels, value, exemplar of (labels, value, at))."""


def snapshot(registry: Collector = REGISTRY) -> Snapshot:
    """Take what this process counts, as far as it can be added up."""
    return [
        [family.name, family.documentation, family.type, [_packed(sample) for sample in family.samples]]
        for family in registry.collect()
        if family.name not in NOT_ADDED
    ]


def _packed(sample: Sample) -> list[Any]:
    exemplar = sample.exemplar
    return [
        sample.name,
        dict(sample.labels),
        float(sample.value),
        None if exemplar is None else [dict(exemplar.labels), exemplar.value, exemplar.timestamp],
    ]


class Totals:
    """Families added up by name, samples by name and labels; of exemplars the newest stays."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, dict[Any, Sample]]] = {}

    def add(self, taken: Snapshot, *, only_growing: bool = False) -> None:
        """Add a snapshot, or of it what only ever grows."""
        for name, text, kind, samples in taken:
            if only_growing and kind not in GROWING:
                continue
            family = self._families.setdefault(name, (text, kind, {}))[2]
            for each in samples:
                _add(family, each)

    def collect(self, own: Iterable[Metric] = ()) -> Iterable[Metric]:
        """Yield the sums, each together with the family of the same name among `own`."""
        for metric in own:
            _, _, mine = self._families.get(metric.name, ("", "", {}))
            if metric.name in NOT_ADDED or not mine:
                yield metric
                continue
            family = dict(mine)
            for sample in metric.samples:
                _add(family, _packed(sample))
            yield _metric(metric.name, metric.documentation, metric.type, family.values())

    def taken(self) -> Snapshot:
        """Give the sums as a snapshot."""
        return [
            [name, text, kind, [_packed(sample) for sample in family.values()]]
            for name, (text, kind, family) in self._families.items()
        ]


def _add(family: dict[Any, Sample], packed: Sequence[Any]) -> None:
    name, labels, value, exemplar = packed
    key = (name, tuple(sorted(labels.items())))
    before = family.get(key)
    newest = None if exemplar is None else Exemplar(*exemplar)
    if before is not None:
        value += before.value
        newest = _newer(before.exemplar, newest)
    family[key] = Sample(name, labels, value, None, newest)


def _newer(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return one if float(one.timestamp or 0) >= float(other.timestamp or 0) else other


def _metric(name: str, text: str, kind: str, samples: Iterable[Sample]) -> Metric:
    metric = Metric(name, text, kind)
    metric.samples = list(samples)
    return metric
