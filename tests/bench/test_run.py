"""The bench itself, in a short form: it measures, prints, writes, and tells what was wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import Figure, figures
from bench.report import failures

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("bench")


def test_a_short_run(tmp_path):
    parts = ["script", "channel", "scripts", "memory"]
    command = [sys.executable, "-m", "bench.run", "--seconds", "0.4", "--quick", "--out", str(tmp_path)]
    ran = subprocess.run(
        [*command, "--only", *parts],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["wrong"], report["left_out"]) == ([], [])
    assert set(report["found"]) == set(parts)
    assert report["cpus"] == os.cpu_count()
    assert all(figure["value"] > 0 for figure in report["figures"])
    for figure in report["figures"]:
        assert figure["what"] in ran.stdout


def test_a_part_that_has_no_time_is_left_out(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bench.run",
        "--only",
        "channel",
        "--minutes",
        "0",
        "--out",
        str(tmp_path),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Left out: channel: out of time" in ran.stdout


def test_an_answer_that_is_no_success_is_told():
    found = {"http": {"seatd": {"renew": {"all": {"codes": {"ok": 5, "internal": 1}}}}}}
    assert failures(found) == ["http.seatd.renew.all: {'internal': 1}"]
    assert failures({"storm": {"all": {"codes": {"no_seat": 1}}}}) == []


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(0.9, True, True), (0.89, True, False), (0.9, False, True), (0.91, False, False)],
)
def test_whether_a_figure_is_reached(value, at_least, met):
    assert Figure("x", value, "x", 0.9, "", at_least=at_least).met is met
    assert Figure("x", value, "x", None, "", at_least=at_least).met is None


def test_without_measurements_there_are_no_figures():
    assert figures({}) == []


def test_figures_take_the_mean_of_the_bare_handler():
    def run(per_s: float) -> dict[str, object]:
        return {
            "all": {"per_s": per_s, "p50_ms": 1.0, "p99_ms": 2.0},
            "cpu_us": {"python": 30.0},
            "offered_per_s": 5,
        }

    bare = {name: run(1_000) for name in ("renew", "cycle", "pulse", "half")}
    bare |= {"renew_after": run(3_000), "cycle_after": run(1_000)}
    ours = {
        name: run(1_000) for name in ("renew", "cycle", "cycle_in_use", "pulse", "half", "pulse_everysec")
    }
    counted = {"renew": run(500), "cycle": run(250)}
    guarded = {"renew": run(500), "cycle": run(400)}
    found = {"http": {"bare": bare, "seatd": ours}, "sql": {"counted": counted, "guarded": guarded}}
    values = {figure.what: figure.value for figure in figures(found)}
    assert values["renew over HTTP / bare handler"] == 0.5
    assert values["acquire and release / PostgreSQL, 5,000 seats in use"] == 2.5  # the better of the two
