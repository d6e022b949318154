"""Metrics are named and bounded as operators expect; no key and no receipt gets into a log line."""

import contextlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from seatd import telemetry
from seatd.accounts.tokens import make as make_key
from seatd.model import ID_PATTERN, Scope
from seatd.seats.receipts import Keyring, Receipt, seal
from seatd.telemetry import HIDDEN, REGISTRY, configure_logging, log, scrub
from tests.needs import needs

RING = Keyring(b"kid1", {b"kid1": b"x" * 32})
RECEIPT = seal(RING, Receipt("t", "u", "c", "l" * 24, 1_700_000_000_000, 1_700_000_300_000, "team", 5))
KEYS = {
    scope: make_key(scope, "demo.team" if scope in {Scope.CLIENT, Scope.TENANT_ADMIN} else None)
    for scope in Scope
}
SECRETS = [*KEYS.values(), RECEIPT]
MODES = pytest.mark.parametrize("console", [False, True], ids=["json", "console"])


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What a test has written to standard error; the set-up of logs is put back afterwards."""
    handlers, level = logging.root.handlers[:], logging.root.level
    before = structlog.get_config()
    yield lambda: capsys.readouterr().err
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def fail(about: str) -> NoReturn:
    a_local = about[::-1]
    raise RuntimeError(f"no such thing: {a_local[::-1]}")


@dataclass
class Carrier:
    """Something with a secret in its repr."""

    inside: str


# -- secrets ----------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("secret", SECRETS, ids=[*KEYS, "receipt"])
def test_no_secret_leaves_by_any_way(written: Callable[[], str], console: bool, secret: str):
    configure_logging("debug", console=console)
    other = logging.getLogger("library")
    log.info("named", key=secret, admin_key=secret, seat_receipt=secret, Authorization=f"Bearer {secret}")
    log.info("nested", request={"headers": [("x", secret)], "receipt": {"text": secret}})
    log.info("as text", text=f"before{secret} after", raw=secret.encode(), thing=Carrier(secret))
    log.info("lines", text=f"first\n{secret}\tnext", quoted=f"'{secret}'", path=f"/v1/{secret}/renew")
    log.info(f"in the event {secret}")
    log.info("as a name", **{secret: 1})
    try:
        fail(secret)
    except RuntimeError as error:
        log.exception("failed", error=error)
        other.exception("library failed: %s", error)
    other.warning("library saw %s", {"header": secret})
    out = written()
    assert out.count(HIDDEN) >= 12
    assert secret not in out
    assert secret[-32:] not in out


@MODES
def test_what_is_named_like_a_secret_is_dropped_whatever_it_looks_like(
    written: Callable[[], str], console: bool
):
    configure_logging(console=console)
    log.info("a", password="hunter2", db_password="hunter2", Cookie="hunter2", keys=["hunter2"])
    log.info("b", deep=[{"api-key": {"x": "hunter2"}}, {"TOKEN": b"hunter2"}])
    out = written()
    assert "hunter2" not in out
    assert out.count(HIDDEN) == 6


@given(tenant=st.from_regex(ID_PATTERN, fullmatch=True), before=st.text(max_size=5))
def test_a_key_of_any_tenant_is_scrubbed(tenant: str, before: str):
    for scope in (Scope.CLIENT, Scope.TENANT_ADMIN):
        key = make_key(scope, tenant)
        assert key.rpartition(".")[2] not in scrub(f"{before}{key}")


@given(
    ids=st.tuples(*[st.from_regex(ID_PATTERN, fullmatch=True)] * 3),
    lease=st.from_regex(r"[a-z2-7]{24}", fullmatch=True),
    times=st.tuples(*[st.integers(1_600_000_000_000, 2**53)] * 2),
    key_id=st.binary(min_size=4, max_size=4),
    before=st.text(max_size=5),
)
def test_any_receipt_is_scrubbed(ids: Any, lease: str, times: Any, key_id: bytes, before: str):
    receipt = seal(
        Keyring(key_id, {key_id: b"s" * 32}),
        Receipt(ids[0], ids[1], ids[2], lease, times[0], times[1], "team", 1),
    )
    left = scrub(f"{before}{receipt}")
    assert receipt[-40:] not in left
    assert receipt[:60] not in left


def test_passwords_in_urls_and_foreign_credentials_are_scrubbed():
    said = scrub("postgresql+asyncpg://seatd:pa.ss%21@db:5432/x, redis://:hush@h; Authorization: Bearer xyz")
    assert "pa.ss" not in said
    assert "hush" not in said
    assert "xyz" not in said
    assert "@db:5432/x" in said


def test_what_is_no_secret_is_left_alone(written: Callable[[], str]):
    configure_logging()
    harmless = {
        "tenant": "acme.sales@example.com",
        "user": "lisa.mustermann-schmidt",
        "lease": "mfrggzdfmztwq2lkmfrggzdf",
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "url": "http://127.0.0.1:8470/v1/leases",
        "key_id": "k_abcdefghijkl",
        "keys": 3,
        "path": "/var/lib/seatd/store/store.sock",
        "at": {"minute": [1, 2.5, None, True]},
    }
    log.info("harmless", **harmless)
    line = json.loads(written())
    assert {name: line[name] for name in harmless} == harmless
    assert (line["event"], line["level"]) == ("harmless", "info")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])


def test_data_that_holds_itself_is_cut_off(written: Callable[[], str]):
    configure_logging()
    endless: dict[str, object] = {}
    endless["again"] = endless
    log.info("endless", data=endless)
    assert HIDDEN in written()


# -- lines ------------------------------------------------------------------------------------------


def test_one_event_is_one_line_of_json(written: Callable[[], str]):
    configure_logging()
    log.info("two\nlines", text="a\nb")
    log.debug("not at this level")
    try:
        fail("with\na trace")
    except RuntimeError:
        log.exception("failed")
    parsed = [json.loads(line) for line in written().splitlines()]
    assert [line["event"] for line in parsed] == ["two\nlines", "failed"]
    assert "RuntimeError: no such thing: with\na trace" in parsed[1]["exception"]


def test_libraries_speak_through_our_lines(written: Callable[[], str]):
    configure_logging()
    library = logging.getLogger("aiohttp.client")
    library.warning("odd: %s", "this")
    library.info("not this")
    library.warning("malformed %d", "text")
    (line,) = [json.loads(line) for line in written().splitlines()]
    assert (line["event"], line["logger"], line["level"]) == ("odd: this", "aiohttp.client", "warning")


def test_a_malformed_request_is_told_without_what_it_said(written: Callable[[], str]):
    configure_logging()
    try:
        fail("Authorization: Bearer abc-def")
    except RuntimeError:
        logging.getLogger("aiohttp.server").exception("Error handling request from abc-def")
    (line,) = [json.loads(line) for line in written().splitlines()]
    assert (line["event"], line["level"]) == ("malformed request", "info")
    assert "abc-def" not in json.dumps(line)


def test_the_console_shows_no_locals(written: Callable[[], str]):
    configure_logging(console=True)
    try:
        fail("abc-def")
    except RuntimeError:
        log.exception("failed")
    out = written()
    assert "RuntimeError: no such thing: abc-def" in out
    assert "fed-cba" not in out


def test_a_line_that_cannot_be_written_stops_nothing(
    written: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    configure_logging()
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr("sys.stderr", full)
        for _ in range(100):
            log.info("x" * 200)
            log.exception("y", exc_info=ValueError("z"))
            logging.getLogger("library").error("w")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    log.info("written again")
    assert "written again" in written()


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(KeyError):
        configure_logging("loud")


# -- metrics ----------------------------------------------------------------------------------------

BOUNDED = {
    "op": {*telemetry.OPS},
    "code": {"ok"},
    "outcome": {*telemetry.OUTCOMES},
    "kind": {*telemetry.KINDS},
    "read": {*telemetry.READS},
    "push": {*telemetry.PUSH_KINDS},
}


def fresh_scrape() -> str:
    """What a process shows that has served nobody yet."""
    code = (
        "import sys; from prometheus_client import generate_latest; from seatd.telemetry import REGISTRY;"
        "sys.stdout.buffer.write(generate_latest(REGISTRY))"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_every_label_is_bounded_by_a_declared_set():
    """A label whose values nobody declared (a user, a path, a tenant) is one too many."""
    for name, value in re.findall(r'^seatd_\w+\{(?:.*,)?(\w+)="([^"]*)"', fresh_scrape(), re.MULTILINE):
        if name not in {"le", "version", "python"}:
            assert value in BOUNDED[name], (name, value)
    for collector in {*REGISTRY._collector_to_names}:
        assert set(getattr(collector, "_labelnames", ())) <= BOUNDED.keys()


def test_every_label_set_exists_before_anything_happened():
    scrape = fresh_scrape()
    for series in (
        'seatd_store_calls_total{outcome="failed"} 0.0',
        'seatd_projections_total{outcome="ok"} 0.0',
        'seatd_recorded_events_total{kind="adopted"} 0.0',
        'seatd_requests_total{code="ok",op="acquire"} 0.0',
        'seatd_request_duration_seconds_count{op="renew"} 0.0',
        "seatd_usage_gaps_total 0.0",
        "seatd_store_up 0.0",
    ):
        assert series in scrape
    assert re.search(r'^seatd_build_info\{python="3[.\d]+",version="\d+[.\d]+"\} 1\.0$', scrape, re.MULTILINE)
    assert "process_resident_memory_bytes" in scrape
    assert "python_info" in scrape
    assert "_created" not in scrape


def test_each_metric_is_declared_once_and_named_by_the_conventions():
    types = re.findall(r"^# TYPE (\S+) (\S+)$", generate_latest(REGISTRY).decode(), re.MULTILINE)
    names = [name for name, _ in types]
    assert len(names) == len({*names})
    for name, kind in types:
        assert name.startswith(("seatd_", "process_", "python_"))
        assert (kind == "counter") == name.endswith("_total"), name
        assert not name.endswith(("_ms", "_milliseconds", "_minutes", "_kilobytes"))
    tenant_names = [name for name, _ in telemetry.TENANT_GAUGES.values()]
    assert not {*tenant_names, telemetry.TENANTS[0], telemetry.TENANTS_FULL[0]} & {*names}


def test_promtool_finds_nothing_to_say_about_the_names():
    checked = subprocess.run(
        [needs("promtool"), "check", "metrics"],
        check=False,
        input=fresh_scrape(),
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
