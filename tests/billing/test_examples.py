"""The worked examples of the contract, to the byte, through the command and through the pure parts."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from seatd.billing.export import charges_file, usage_file
from seatd.billing.months import Month
from seatd.billing.rating import rate as rate_tenant
from seatd.billing.report import usage
from seatd.cli.rate import rate, read_histories, read_price_list

EXAMPLES = Path(__file__).parent / "examples"
HISTORY, PRICES = str(EXAMPLES / "march.jsonl"), str(EXAMPLES / "prices.toml")


@pytest.mark.parametrize(
    ("period", "options", "expected"),
    [
        ("2026-03", [], "march.charges.csv"),
        ("2026-03", ["--usage"], "march.usage.csv"),
        ("2026-04", [], "april.charges.csv"),
    ],
)
def test_worked_example(period, options, expected):
    arguments = ["--history", HISTORY, "--price-list", PRICES, "--period", period, *options]
    result = CliRunner().invoke(rate, arguments)
    assert result.stdout_bytes == (EXAMPLES / expected).read_bytes()
    assert (result.exit_code, result.stderr) == (0, "")


def test_json_lines_hold_the_same_as_strings():
    for options, expected in ([], "march.charges.csv"), (["--usage"], "march.usage.csv"):
        arguments = ["--history", HISTORY, "--price-list", PRICES, "--period", "2026-03", "--format", "jsonl"]
        found = [
            json.loads(line) for line in CliRunner().invoke(rate, [*arguments, *options]).stdout.splitlines()
        ]
        with (EXAMPLES / expected).open(newline="") as rows:
            assert [list(each.items()) for each in found] == [
                list(row.items()) for row in csv.DictReader(rows)
            ]


def test_help_shows_an_example():
    shown = CliRunner().invoke(rate, ["--help"]).stdout
    assert "seatd billing rate --history march.jsonl --price-list prices.toml --period 2026-03\n" in shown


def test_pure_parts_give_the_same():
    prices = read_price_list(PRICES)
    month = Month.parse("2026-03", prices.timezone)
    facts = list(read_histories([HISTORY]).all_facts())
    charges = [charge for each in facts for charge in rate_tenant(each, prices, month)]
    lines = [line for each in facts if (line := usage(each, month))]
    assert b"".join(charges_file(charges, "csv")) == (EXAMPLES / "march.charges.csv").read_bytes()
    assert b"".join(usage_file(lines, "csv")) == (EXAMPLES / "march.usage.csv").read_bytes()


def test_needs_neither_server_nor_database():
    program = (
        "import sys, seatd.cli.rate; "
        "print([name for name in ('aiohttp', 'sqlalchemy', 'redis', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
