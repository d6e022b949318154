"""Scrape configuration, alerts and dashboard: right to Prometheus, and about metrics that a seatd really shows."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from seatd.model import CODES
from seatd.telemetry import KINDS, OPS, OUTCOMES, READS
from tests.deploy.files import (
    DEPLOY,
    PROMETHEUS,
    RULES,
    RULES_TEST,
    dashboard,
    filled_in,
    panels,
    read_yaml,
    rules,
    run,
    write_yaml,
)
from tests.deploy.watcher import Watcher
from tests.needs import needs
from tests.servers import SeatdProcess, call

KEYWORDS = {"and", "or", "unless", "offset", "bool", "atan2", "by", "without", "on", "ignoring"}
PROMETHEUS_OWN = {"up": {"job", "instance"}}
TARGET_LABELS = {"job", "instance"}
VALUES = {
    "op": {*OPS},
    "code": {"ok", *CODES},
    "outcome": {*OUTCOMES},
    "kind": {*KINDS},
    "read": {*READS},
}

EXPRESSIONS = {
    **{f"alert {rule['alert']}": rule["expr"] for rule in rules()},
    **{
        f"panel {panel.title} {number}": filled_in(expression)
        for panel in panels()
        for number, (expression, _) in enumerate(panel.targets)
    },
}
EACH = pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)


@pytest.fixture(scope="module")
def shown(seatd: SeatdProcess) -> dict[str, set[str]]:
    """What a real server's scrape holds: sample name -> its labels."""
    seatd.tenant("metered", tariff="team", seats=1)
    samples: dict[str, set[str]] = {}
    text = call("GET", f"{seatd.internal_url}/metrics", headers={"Accept": "text/plain"}).raw.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples


def selectors(expression: str) -> Iterator[tuple[str, str]]:
    """Every metric that an expression names, with what stands in its braces."""
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", expression)
    for name, braces in re.findall(r"([a-zA-Z_:][\w:]*)\b(?!\s*\()\s*(\{[^}]*\})?", _no_text(bare)):
        if name not in KEYWORDS and not re.fullmatch(r"[smhdwy]", name):
            yield name, braces


def _no_text(expression: str) -> str:
    """Values become harmless, durations go; the braces stay."""
    expression = re.sub(r"\[[^\]]*\]", " ", expression)
    return re.sub(r"\{[^}]*\}", lambda braces: braces.group().replace(" ", ""), expression)


def test_the_reader_of_expressions_finds_what_is_there():
    found = selectors('sum by (op) (rate(a_total{x="b c",y!="d"}[5m])) / on (z) (b > 0) and c:d offset 5m')
    assert dict(found) == {"a_total": '{x="bc",y!="d"}', "b": "", "c:d": ""}


@EACH
def test_expressions_name_only_what_a_server_shows(shown: dict[str, set[str]], expression: str):
    known = {name: labels | TARGET_LABELS for name, labels in shown.items()} | PROMETHEUS_OWN
    named = dict(selectors(expression))
    assert named
    for name, braces in named.items():
        assert name in known, f"{name} is no metric of seatd"
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', braces):
            assert label in known[name], f"{name} has no label {label}"
            if operator in {"=", "!="} and label in VALUES:
                assert value in VALUES[label], f"{label} is never {value}"
    for label in re.findall(r"\w+", " ".join(re.findall(r"\bby\s*\(([^)]*)\)", expression))):
        assert label in set().union(*(known[name] for name in named)), f"nothing has a label {label}"


def test_configuration_and_rules_are_right_to_prometheus():
    for what, path in (("config", PROMETHEUS), ("rules", RULES)):
        checked = run(needs("promtool"), "check", what, str(path))
        assert checked.returncode == 0, checked.stderr


def test_expressions_are_right_to_prometheus(tmp_path: Path):
    """Each becomes a recording rule, for want of a command that checks an expression alone."""
    records = [
        {"record": f"checked:{number}", "expr": text} for number, text in enumerate(EXPRESSIONS.values())
    ]
    path = tmp_path / "rules.yml"
    write_yaml(path, {"groups": [{"name": "checked", "rules": records}]})
    checked = run(needs("promtool"), "check", "rules", str(path))
    assert checked.returncode == 0, checked.stderr
    assert f"{len(EXPRESSIONS)} rules found" in checked.stdout


def test_each_alert_comes_when_it_should_and_only_then():
    checked = run(needs("promtool"), "test", "rules", str(RULES_TEST))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    cases = [case for test in read_yaml(RULES_TEST)["tests"] for case in test["alert_rule_test"]]
    for comes in (True, False):
        tried = {case["alertname"] for case in cases if bool(case["exp_alerts"]) == comes}
        assert tried == {rule["alert"] for rule in rules()}


def test_each_alert_says_what_to_do():
    text = (DEPLOY / "README.md").read_text()
    for rule in rules():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == "deploy/README.md"
        assert anchor == rule["alert"].lower()
        assert f"\n### {rule['alert']}\n" in text
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_prometheus_scrapes_where_seatd_listens():
    (job,) = read_yaml(PROMETHEUS)["scrape_configs"]
    assert job["job_name"] == "seatd"
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8471"]}]
    assert dashboard()["templating"]["list"][1]["current"]["value"] == job["job_name"]


# -- for real ---------------------------------------------------------------------------------------


def test_a_real_prometheus_fills_every_panel(
    new_seatd: Callable[..., SeatdProcess], prometheus: Callable[[str], Watcher]
):
    server = new_seatd().start()
    key = server.tenant("busy", tariff="team", seats=1)
    watcher = prometheus(server.internal_url.removeprefix("http://"))
    if time.time() % 60 > 40:  # refusals are counted a minute: all of the test's fall in one
        time.sleep(60 - time.time() % 60)
    for user in ("ana", "ben", "cy"):
        server.client("POST", "/v1/leases", {"user": user, "client": "desk"}, key=key)
    watcher.wait_for('seatd_requests_total{code="no_seat"} > 0')
    server.client("POST", "/v1/leases", {"user": "dee", "client": "desk"}, key=key)
    watcher.wait_for('rate(seatd_requests_total{code="no_seat"}[5s]) > 0')
    for panel in panels():
        for expression, _ in panel.targets:
            assert watcher.query(filled_in(expression, interval="5s")), (panel.title, expression)
    assert watcher.value('seatd_tenant_seats_in_use{tenant="busy"}') == 1
    assert watcher.value('seatd_tenant_seats_capacity{tenant="busy"}') == 1
    assert watcher.value('seatd_tenant_seats_denied{tenant="busy"}') == 3
    assert watcher.value("seatd_store_up") == 1
    for rule in watcher.rules():
        assert rule["health"] == "ok", rule
    assert {rule["name"] for rule in watcher.rules()} == {rule["alert"] for rule in rules()}
