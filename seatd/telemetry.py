"""Log set-up, and every metric, declared once.

Names and units follow the Prometheus conventions.  Labels are bounded: verbs, codes and outcomes are
fixed sets, and what they may be is declared here; a tenant is a label only on the families of
`TENANT_GAUGES`, which `web.ops` fills with the largest tenants by name and the rest as one.
Log lines never hold keys or receipts: what must not appear is never passed in, and should it be, the
last steps drop it by name and by shape, from every logger of the process.
"""

import contextlib
import logging
import platform
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

import seatd

# -- metrics ----------------------------------------------------------------------------------------

OPS: Final = ("acquire", "wait", "renew", "release", "addon", "frame")
OUTCOMES: Final = ("ok", "failed")
KINDS: Final = ("started", "ended", "denied", "sample", "adopted")
PUSH_KINDS: Final = ("granted", "revoked", "renew", "drain")
READS: Final = ("store", "tenants", "policies")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a counter, that nobody asked for
REGISTRY: Final = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

BUILD: Final = Info("seatd_build", "What is running.", registry=REGISTRY)


class Answers(Collector):
    """Counts and times answers, at the price of two additions each; laid out as metrics when somebody looks."""

    BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._times: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def declare(self, op: str) -> None:
        """Show an operation before it was ever asked for."""
        self._counts.setdefault((op, "ok"), 0)
        self._times.setdefault(op, [0] * (len(self.BOUNDS) + 1))
        self._sums.setdefault(op, 0.0)

    def note(self, op: str, code: str, seconds: float) -> None:
        """Count an answer; `op` is declared, `code` is `ok` or the problem's."""
        self._counts[op, code] = self._counts.get((op, code), 0) + 1
        self._times[op][bisect_left(self.BOUNDS, seconds)] += 1
        self._sums[op] += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield both families."""
        requests = CounterMetricFamily("seatd_requests", "Client requests answered.", labels=["op", "code"])
        for labels, count in self._counts.items():
            requests.add_metric(labels, count)
        yield requests
        seconds = HistogramMetricFamily(
            "seatd_request_duration_seconds",
            "Time from reading a client request to its answer.",
            labels=["op"],
        )
        bounds = [*map(str, self.BOUNDS), "+Inf"]
        for op, counts in self._times.items():
            seconds.add_metric([op], [*zip(bounds, accumulate(counts), strict=True)], self._sums[op])
        yield seconds


ANSWERS: Final = Answers()
REGISTRY.register(ANSWERS)
CHANNELS: Final = Gauge("seatd_channels", "Channels that are open.", registry=REGISTRY)
PUSHES: Final = Counter(
    "seatd_channel_pushes_total", "What channels were told unasked.", ["push"], registry=REGISTRY
)
WORKERS: Final = Gauge("seatd_workers", "Worker processes that serve clients.", registry=REGISTRY)
WORKER_RESTARTS: Final = Counter(
    "seatd_worker_restarts_total", "Workers that ended and were started again.", registry=REGISTRY
)
LINE_SECONDS: Final = Histogram(
    "seatd_line_wait_seconds",
    "Time that those stood in line who got a seat in the end.",
    buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0),
    registry=REGISTRY,
)
STORE_CALLS: Final = Counter(
    "seatd_store_calls_total", "Round trips to the seat store.", ["outcome"], registry=REGISTRY
)
STORE_BATCH: Final = Histogram(
    "seatd_store_batch_operations",
    "Operations that travelled in one script call.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=REGISTRY,
)
PROJECTIONS: Final = Counter(
    "seatd_projections_total", "Policies put into force on the seat plane.", ["outcome"], registry=REGISTRY
)
RECORDED: Final = Counter(
    "seatd_recorded_events_total", "Usage events committed to the ledger.", ["kind"], registry=REGISTRY
)
RECORDER_ERRORS: Final = Counter(
    "seatd_recorder_errors_total", "Rounds of the recorder that failed.", registry=REGISTRY
)
SEQ_GAPS: Final = Counter(
    "seatd_usage_gaps_total", "Gaps in the sequence of usage events.", registry=REGISTRY
)
STREAM_BACKLOG: Final = Gauge(
    "seatd_usage_backlog_events", "Usage events that wait for the ledger.", registry=REGISTRY
)
STORE_UP: Final = Gauge("seatd_store_up", "1 while the seat store answers.", registry=REGISTRY)
DATABASE_UP: Final = Gauge("seatd_database_up", "1 while the account database answers.", registry=REGISTRY)
SCRAPE_ERRORS: Final = Counter(
    "seatd_scrape_errors_total",
    "Reads for a scrape or a readiness check that failed or took too long.",
    ["read"],
    registry=REGISTRY,
)

TENANT_GAUGES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "in_use": ("seatd_tenant_seats_in_use", "Seats in use now."),
        "capacity": ("seatd_tenant_seats_capacity", "Seats that may be in use at once."),
        "denied": ("seatd_tenant_seats_denied", "Users refused a seat in the minute that runs."),
        "waiting": ("seatd_tenant_users_waiting", "Users who stand in line for a seat."),
    }
)
"""The families with the label `tenant`, by the field they show: read from the store at each scrape."""
TENANTS: Final = ("seatd_tenants", "Tenants that the seat store knows.")
TENANTS_LEARNING: Final = (
    "seatd_tenants_learning",
    "Tenants that learn who sits, after the store was lost: renewals go on, acquires wait.",
)
TENANTS_FULL: Final = ("seatd_tenants_full", "Tenants with every seat in use that refuse users this minute.")


def _declare_series() -> None:
    """Show what has not happened yet as 0: a rate over a series that appears from nothing misses its start."""
    BUILD.info({"version": seatd.__version__, "python": platform.python_version()})
    for metric, values in (
        (STORE_CALLS, OUTCOMES),
        (PROJECTIONS, OUTCOMES),
        (RECORDED, KINDS),
        (PUSHES, PUSH_KINDS),
    ):
        for value in values:
            metric.labels(value)
    for read in READS:
        SCRAPE_ERRORS.labels(read)
    for op in OPS:
        ANSWERS.declare(op)


_declare_series()


def count_answer(op: str, code: str, began_s: float) -> None:
    """Count and time an answer: `code` is `ok` or the problem's, `began_s` of the performance counter."""
    ANSWERS.note(op, code, time.perf_counter() - began_s)


# -- logs -------------------------------------------------------------------------------------------

HIDDEN: Final = "***"
DEPTH_MAX: Final = 8
_SECRET_WORDS: Final = frozenset(
    f"{word}{plural}"
    for word in ("key", "receipt", "authorization", "secret", "token", "password", "passwd", "cookie")
    for plural in ("", "s")
)
_HARMLESS: Final = (int, float, bool, type(None))
# Shapes, looked for in the finished line: keys, a bearer's credentials, receipts and places in line (base64url of at
# least 43 bytes, the first of which is the version, 1 or 2), passwords in URLs.
_SHAPES: Final = re.compile(
    r"s[ct]\.[A-Za-z0-9._@:+%\-]{1,400}\.[A-Za-z0-9_\-]{32,}"
    r"|s[ab]\.[A-Za-z0-9_\-]{32,}"
    r"|(?<=[Bb]earer )[^\s\"',;)\]}\\]+"
    r"|A[Q-Za-v][A-Za-z0-9_\-]{55,}=*"
    r"|(?<=://)[^\s/\"'@]*:[^\s/\"'@]*(?=@)"
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("seatd")


def _is_secret(name: object) -> bool:
    return str(name).lower().replace("-", "_").rpartition("_")[2] in _SECRET_WORDS


def _without_secrets(value: Any, depth: int = 0) -> Any:
    """Copy nested data with every field that is named like a secret hidden; a number is no secret."""
    if depth > DEPTH_MAX:
        return HIDDEN
    if isinstance(value, Mapping):
        return {
            str(name): HIDDEN
            if _is_secret(name) and not isinstance(inner, _HARMLESS)
            else _without_secrets(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_without_secrets(inner, depth + 1) for inner in value]
    return value


def _drop_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    cleared: MutableMapping[str, Any] = _without_secrets(event)
    return cleared


def scrub(line: str) -> str:
    """Hide whatever in a finished line looks like a key, a receipt, or a password in a URL."""
    return _SHAPES.sub(HIDDEN, line)


def _scrubbed(_: object, __: str, line: Any) -> str:
    return scrub(str(line))


class _Through(logging.Handler):
    """Hands what libraries log to our own lines, so that nothing reaches the output past the scrubbing."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as a line of ours that names the library's logger."""
        try:
            if record.name == "aiohttp.server":
                # A request that was no HTTP: not our error, and what it quotes may be a header with a key.
                log.info("malformed request", logger=record.name)
                return
            log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - a line that cannot be written must not stop what it is about
            self.handleError(record)


class _Lines(structlog.PrintLogger):
    """Writes lines, and gives up those that cannot be written: a full disk must not stop what they are about."""

    def msg(self, message: str) -> None:
        """Write a line, if that can be."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = error = critical = exception = fatal = msg


def configure_logging(level: str = "info", *, console: bool = False) -> None:
    """Send structured lines to standard error: for people on a console, else one JSON object a line.

    What libraries log at warning or above comes along.  Raises `KeyError` for a level that does not exist.
    """
    renderer: Any = structlog.processors.JSONRenderer()
    if console:
        # The default formatter prints the locals of every frame, keys and receipts among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _drop_secrets,
            renderer,
            _scrubbed,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=False,  # standard error may be another one later
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Through()], force=True)
    logging.raiseExceptions = False  # a traceback from logging itself would pass the scrubbing by
