"""Log set-up, and every metric, declared once.

Names and units follow the Prometheus conventions.  Labels are bounded: verbs, codes and outcomes are
fixed sets; a tenant is a label only through `web.ops`, which names the largest and sums the rest.
Log lines never hold keys or receipts: what must not appear is never passed in, and the last processor drops it.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry(auto_describe=True)

REQUESTS: Final = Counter(
    "seatd_requests_total", "Client requests answered.", ["op", "code"], registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "seatd_request_duration_seconds",
    "Time from reading a client request to its answer.",
    ["op"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
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

log: structlog.stdlib.BoundLogger = structlog.get_logger("seatd")

_SECRET_FIELDS: Final = frozenset({"key", "receipt", "authorization", "secret", "token", "password"})


def _drop_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in _SECRET_FIELDS & event.keys():
        event[name] = "***"
    return event


def configure_logging(level: str = "info", *, console: bool = False) -> None:
    """Send structured lines to standard error: for people on a console, else one JSON object a line."""
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _drop_secrets,
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
