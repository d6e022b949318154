"""The demo in a short form: the same day in less time, with fewer people."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import demo
from bench.clock import DayClock
from bench.day import Day

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.xdist_group("demo")  # one worker: what they share is slow to make


@pytest.fixture(scope="module")
def ran():
    command = [sys.executable, "-m", "bench.demo", "--seconds", "6", "--people", "12", "--seats", "10"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def test_a_short_day_goes_as_it_should(ran):
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for happened in (
        r"agent-\d\d is refused: 10 of 10 seats are taken",
        r"zoe is refused in the back office: not named for agent",
        r"ana is refused at home: she sits at ana-desk",
        r"the first desk is told: taken_over",
        r"gus crashes",
        r"kim gets the ghost's seat \d+ ms after its lease had run out",
        r"seatd serves again after \d+ ms: (\d+) of \1 leases are there",
    ):
        assert re.search(happened, ran.stdout), (happened, ran.stdout)


def test_the_bill_is_the_servers(ran):
    for line in (
        r"helpdesk +team +booked_peak +10 +39\.00 +1 +390\.00",
        r"helpdesk +ocr +flat +1 +120\.00 +1 +120\.00",
        r"backoffice +agent +distinct_named +6 +49\.00 +1 +294\.00",
        r"helpdesk +10 +10 +0\.0\d+ +12 ",
    ):
        assert re.search(line, ran.stdout), (line, ran.stdout)


def test_without_a_terminal_there_are_plain_lines(ran):
    assert "\x1b" not in ran.stdout


@pytest.mark.parametrize(
    ("charges", "wrong"),
    [
        ("9", "('helpdesk', 'team') is charged 9, not 10"),
        ("10", "the ledger's peak of helpdesk is 11, not 10"),
    ],
)
def test_what_should_not_be_is_told(charges, wrong):
    day = Day(None, DayClock(1), lambda _: None, 12, 10)  # type: ignore[arg-type]  # asks no server
    usage = [{"tenant": name, "used_peak": "11", "denied": "0"} for name in ("helpdesk", "hotline")]
    demo._checked(
        day, usage, [{"tenant": "helpdesk", "product": "team", "quantity": charges}], {"gaps": ["one"]}
    )
    assert wrong in day.wrong
    assert "the ledger has gaps: ['one']" in day.wrong
