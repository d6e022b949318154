"""The dashboard is whole: it asks the data source that is chosen, and says what it shows and in which unit."""

import itertools
import re

from tests.deploy.files import dashboard

UNITS = {"none", "percentunit", "reqps", "ops", "s", "bytes"}
"""Units of Grafana's that the panels use; another one is written down here first."""
SHOWN = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_ids_are_unique_and_nothing_overlaps():
    panels = dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len({*ids})
    cells = list(
        itertools.chain.from_iterable(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
            for at in (panel["gridPos"] for panel in panels)
        )
    )
    assert len(cells) == len({*cells})
    assert max(x for x, _ in cells) < 24


def test_every_panel_asks_the_chosen_data_source():
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert all(
        variable["datasource"] == SOURCE for name, variable in variables.items() if name != "datasource"
    )
    for panel in SHOWN:
        assert panel["datasource"] == SOURCE
        for target in panel["targets"]:
            assert target["datasource"] == SOURCE
            used = {*re.findall(r"\$(\w+)", target["expr"])} - {"__rate_interval"}
            assert used <= variables.keys(), panel["title"]
            assert 'job="$job"' in target["expr"], panel["title"]


def test_every_panel_says_what_it_shows():
    titles = [panel["title"] for panel in SHOWN]
    assert len(titles) == len({*titles})
    for panel in SHOWN:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len({*references})
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert all(legends)
        assert len(legends) == len({*legends})


def test_legends_name_labels_that_are_left():
    """A label that the expression adds up over is gone: its legend would be empty."""
    for panel in SHOWN:
        for target in panel["targets"]:
            named = {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])}
            groups = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            if groups:
                left = {*re.findall(r"\w+", groups[0])} - {"le"}
            else:
                left = set() if re.match(r"(sum|min|max|count)\(", target["expr"]) else {"instance"}
            if target["expr"].startswith("sum(max by"):
                left = set()
            assert named == left, (panel["title"], target["legendFormat"])


def test_what_operators_need_is_there():
    asked = " ".join(target["expr"] for panel in SHOWN for target in panel["targets"])
    for metric in (
        "seatd_tenant_seats_in_use",
        "seatd_tenant_seats_capacity",
        "seatd_tenant_seats_denied",
        "seatd_requests_total",
        "seatd_request_duration_seconds_bucket",
        "seatd_store_batch_operations_sum",
        "seatd_usage_backlog_events",
        "seatd_usage_gaps_total",
        "seatd_tenants_learning",
        "seatd_store_up",
        "seatd_database_up",
    ):
        assert metric in asked
    assert "histogram_quantile(0.5," in asked
    assert "histogram_quantile(0.99," in asked
