"""Whatever is wrong with a file: exit status 2, file and line on standard error, nothing else."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from seatd.cli.rate import rate

PRICES = str(Path(__file__).parent / "examples" / "prices.toml")
AT = "2026-03-02T09:00:00Z"


def line(**fields):
    return json.dumps({"at": AT, "tenant": "acme", **fields})


GOOD = line(event="tariff", tariff="team")
START = line(event="seat_started", lease="l1", user="ana")
METERED = line(event="metered", product="ocr_pages", quantity="12", id="m1")


def run(tmp_path, *files, options=(), prices=(PRICES,), period="2026-03"):
    arguments = ["--period", period, *options]
    for number, content in enumerate(files):
        path = tmp_path / f"h{number}.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        arguments += ["--history", str(path)]
    for path in prices:
        arguments += ["--price-list", str(path)]
    return CliRunner().invoke(rate, arguments)


def refused(result, where):
    assert result.exit_code == 2, result.stdout
    assert result.stdout_bytes == b""
    assert where in result.stderr
    assert "Traceback" not in result.stderr
    return True


MALFORMED = [
    "not json",
    "{",
    "",
    "[]",
    "null",
    '"text"',
    "1",
    GOOD + GOOD,
    "\ufeff" + GOOD,
    GOOD[:-1] + ', "tariff": "agent"}',
    GOOD[:-1] + ', "x_note": {"a": 1, "a": 2}}',
    GOOD[:-1] + ', "x_note": NaN}',
    GOOD[:-1] + ', "x_note": ' + "[" * 100_000 + "]" * 100_000 + "}",
    GOOD[:-1] + ', "note": 1}',
    GOOD[:-1] + ', "xnote": 1}',
    GOOD.replace(AT, "2026-03-02T09:00:00"),
    GOOD.replace(AT, "2026-03-02 09:00:00Z"),
    GOOD.replace(AT, "2026-03-02T09:00Z"),
    GOOD.replace(AT, "2026-03-02T09:00:00z"),
    GOOD.replace(AT, "2026-03-02T09:00:00.Z"),
    GOOD.replace(AT, "2026-03-02T09:00:00.1234Z"),
    GOOD.replace(AT, "2026-03-02T09:00:00,5Z"),
    GOOD.replace(AT, "2026-03-02T09:00:00+0100"),
    GOOD.replace(AT, "2026-03-02T09:00:00+24:00"),
    GOOD.replace(AT, "2026-03-02T09:00:00+01:60"),
    GOOD.replace(AT, "2026-03-02T09:00:60Z"),
    GOOD.replace(AT, "2026-03-02T24:00:00Z"),
    GOOD.replace(AT, "2026-02-29T09:00:00Z"),
    GOOD.replace(AT, "2026-13-01T09:00:00Z"),
    GOOD.replace(AT, "0000-01-01T09:00:00Z"),
    GOOD.replace(AT, "2026-03-02T09:00:00Z\\n"),
    GOOD.replace(AT, "\uff12026-03-02T09:00:00Z"),
    GOOD.replace(f'"{AT}"', "1772442000000"),
    GOOD.replace('"acme"', '""'),
    GOOD.replace('"acme"', '"a b"'),
    GOOD.replace('"acme"', '"a,b"'),
    GOOD.replace('"acme"', '"acmé"'),
    GOOD.replace('"acme"', '"acme\\n"'),
    GOOD.replace('"acme"', '"' + "a" * 129 + '"'),
    GOOD.replace('"acme"', "null"),
    GOOD.replace('"acme"', "7"),
    GOOD.replace('"tariff": "team"', '"tariff": "gold"'),
    GOOD.replace('"tariff": "team"', '"tariff": "service"'),
    GOOD.replace('"tariff": "team"', '"tariff": ["team"]'),
    GOOD.replace('"tariff": "team"', '"x_tariff": "team"'),
    GOOD[:-1] + ', "trial": 1}',
    GOOD[:-1] + ', "trial": null}',
    GOOD[:-1] + ', "product": "team"}',
    GOOD.replace('"event": "tariff"', '"event": "tarif"'),
    GOOD.replace('"event": "tariff"', '"event": null'),
    GOOD.replace('"event": "tariff"', '"event": ["tariff"]'),
    GOOD.replace('"event": "tariff", ', ""),
    line(event="booking", product="team", quantity=-1),
    line(event="booking", product="team", quantity=1.0),
    line(event="booking", product="team", quantity=True),
    line(event="booking", product="team", quantity="1"),
    line(event="booking", product="team", quantity=None),
    line(event="booking", product="team", quantity=1).replace("1}", "1e2}"),
    line(event="booking", product="team", quantity=1).replace("1}", "1" * 5000 + "}"),
    line(event="booking", product="team", quantity=1 << 63),
    line(event="booking", product="team"),
    line(event="booking", product="gold", quantity=1),
    line(event="booking", product="team", quantity=1, user="ana"),
    line(event="bound", product="gold", user="ana"),
    line(event="bound", product="agent", user=""),
    line(event="bound", product="agent"),
    line(event="unbound", product="gold", user="ana"),
    line(event="seat_started", lease="l9"),
    line(event="seat_started", lease="", user="ana"),
    line(event="seat_started", lease=1, user="ana"),
    line(event="seat_started", lease="l\u0007", user="ana"),
    line(event="seat_started", lease="l\ud800", user="ana"),
    line(event="seat_started", lease="l9", user="ana", tariff="gold"),
    line(event="seat_started", lease="l9", user="ana", tariff=None),
    line(event="seat_started", lease="l9", user="ana", trial=True),
    line(event="seat_ended", lease="l9"),
    line(event="seat_ended", lease="l1", user="ana"),
    line(event="seat_ended", lease="l1").replace(AT, "2026-03-02T08:59:59.999Z"),
    START.replace("ana", "bo"),
    START.replace(AT, "2026-03-02T09:00:00.001Z"),
    START[:-1] + ', "tariff": "service"}',
    line(event="denied", user="ana"),
    line(event="denied", user="ana", reason=""),
    line(event="denied", user="ana", reason=None),
    line(event="metered", product="ocr_pages", quantity=12, id="m2"),
    line(event="metered", product="ocr_pages", quantity="", id="m2"),
    line(event="metered", product="ocr_pages", quantity="-1", id="m2"),
    line(event="metered", product="ocr_pages", quantity="+1", id="m2"),
    line(event="metered", product="ocr_pages", quantity="1e3", id="m2"),
    line(event="metered", product="ocr_pages", quantity="NaN", id="m2"),
    line(event="metered", product="ocr_pages", quantity="1.", id="m2"),
    line(event="metered", product="ocr_pages", quantity=".5", id="m2"),
    line(event="metered", product="ocr_pages", quantity="1,5", id="m2"),
    line(event="metered", product="ocr_pages", quantity="1_0", id="m2"),
    line(event="metered", product="ocr_pages", quantity=" 1", id="m2"),
    line(event="metered", product="ocr_pages", quantity="\uff11", id="m2"),
    line(event="metered", product="ocr_pages", quantity="1234567890123", id="m2"),
    line(event="metered", product="ocr_pages", quantity="1.1234567", id="m2"),
    line(event="metered", product="ocr_pages", quantity="1"),
    line(event="metered", product="gold", quantity="1", id="m2"),
    line(event="metered", product="service", quantity="1", id="m2"),
    METERED.replace('"12"', '"13"'),
    METERED.replace(AT, "2026-03-02T09:00:01Z"),
    b'{"at": "\xff"}',
]


@pytest.mark.parametrize("bad", MALFORMED)
@pytest.mark.parametrize("options", [[], ["--usage"]])
def test_a_malformed_line(tmp_path, bad, options):
    before = f"{GOOD}\n{START}\n{METERED}".encode()
    bad = bad if isinstance(bad, bytes) else bad.encode()
    content = b"\n".join([before, bad, GOOD.encode(), b""])
    assert refused(run(tmp_path, GOOD, content, options=options), "h1.jsonl:4:")


def test_the_lines_without_the_bad_one_are_fine(tmp_path):
    result = run(tmp_path, f"{GOOD}\n{START}\n{METERED}\n{GOOD}\n")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_second_end_at_another_instant(tmp_path):
    end = line(event="seat_ended", lease="l1").replace("T09", "T10")
    assert run(tmp_path, f"{START}\n{end}\n{end}\n").exit_code == 0
    assert refused(run(tmp_path, f"{START}\n{end}\n", end.replace("T10", "T11")), "h1.jsonl:1:")


def test_a_start_after_its_end_names_both_lines(tmp_path):
    end = line(event="seat_ended", lease="l1").replace("T09", "T08")
    result = run(tmp_path, end, START)
    assert refused(result, "h1.jsonl:1:")
    assert "h0.jsonl:1" in result.stderr


def test_an_end_in_another_tenant_is_no_end(tmp_path):
    end = line(event="seat_ended", lease="l1").replace("acme", "birch")
    assert refused(run(tmp_path, START, f"{GOOD}\n{end}"), "h1.jsonl:2:")


def test_empty_lines_stand_at_the_end_only(tmp_path):
    assert run(tmp_path, f"{GOOD}\n\n \n").exit_code == 0
    assert run(tmp_path, "\n").exit_code == 0
    assert refused(run(tmp_path, f"{GOOD}\n\n{GOOD}\n"), "h0.jsonl:2:")


def test_an_empty_history_gives_the_header_alone(tmp_path):
    assert run(tmp_path, "").stdout.startswith("period,tenant,product,")
    assert run(tmp_path, "").stdout.count("\n") == 1
    assert run(tmp_path, "", options=["--usage"]).stdout.count("\n") == 1
    assert run(tmp_path, "", options=["--format", "jsonl"]).stdout_bytes == b""


def test_lines_may_end_as_windows_ends_them(tmp_path):
    assert run(tmp_path, f"{GOOD}\r\n{START}\r\n").exit_code == 0


def test_extension_fields_are_passed_over(tmp_path):
    extended = START[:-1] + ', "x_site": {"city": "Ulm"}, "x_": [1]}'
    assert run(tmp_path, f"{START}\n{extended}").exit_code == 0


def test_one_lease_has_one_tariff(tmp_path):
    team, agent = (START[:-1] + f', "tariff": "{tariff}"}}' for tariff in ("team", "agent"))
    assert run(tmp_path, START, team, START).exit_code == 0
    assert refused(run(tmp_path, START, team, agent), "h2.jsonl:1:")
    assert refused(run(tmp_path, team, START, agent), "h2.jsonl:1:")


def test_a_message_holds_no_control_characters(tmp_path):
    bad = GOOD[:-1] + ', "\\u001b[31m\\n": 1}'
    result = run(tmp_path, bad)
    assert refused(result, "h0.jsonl:1:")
    assert result.stderr.rstrip("\n").isprintable()


def test_service_users_are_no_unknown_product(tmp_path):
    assert run(tmp_path, line(event="bound", product="service", user="ana")).exit_code == 0


@pytest.mark.parametrize("period", ["2026-3", "2026-13", "March", "", "2026-03-01"])
def test_a_bad_period(tmp_path, period):
    assert refused(run(tmp_path, GOOD, period=period), "--period")


def test_a_bad_format(tmp_path):
    assert refused(run(tmp_path, GOOD, options=["--format", "parquet"]), "--format")


def test_files_that_cannot_be_read(tmp_path):
    assert refused(run(tmp_path, GOOD, prices=[tmp_path / "none.toml"]), "none.toml")
    missing = ["--history", str(tmp_path / "none.jsonl"), "--price-list", PRICES, "--period", "2026-03"]
    assert refused(CliRunner().invoke(rate, missing), "none.jsonl")
    folder = ["--history", str(tmp_path), "--price-list", PRICES, "--period", "2026-03"]
    assert refused(CliRunner().invoke(rate, folder), str(tmp_path))


def test_a_bad_price_list_names_its_line(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text(Path(PRICES).read_text().replace('currency = "EUR"', "currency = 7"))
    assert refused(run(tmp_path, GOOD, prices=[bad]), "bad.toml:5:")
    bad.write_bytes(b'version = "a"\nname = "\xff"\n')
    assert refused(run(tmp_path, GOOD, prices=[bad]), "bad.toml:2:")


def test_no_price_list_in_force_or_two(tmp_path):
    assert refused(run(tmp_path, GOOD, period="2025-12"), "2025-12")
    assert refused(run(tmp_path, GOOD, period="2025-12"), "prices.toml:4:")
    assert refused(run(tmp_path, GOOD, prices=[PRICES, PRICES]), "2026-example")


def later_list(tmp_path, **replaced):
    text = Path(PRICES).read_text().replace("2026-01-01", "2026-04-01").replace("2026-example", "later")
    for old, new in replaced.items():
        text = text.replace(f"[products.{old}]", f"[products.{new}]")
    path = tmp_path / "later.toml"
    path.write_text(text)
    return path


def test_the_newest_list_in_force_prices_the_month(tmp_path):
    both = [PRICES, later_list(tmp_path)]
    booked = line(event="booking", product="team", quantity=1)
    march, april = (
        run(tmp_path, GOOD, booked, prices=both, period=period).stdout for period in ("2026-03", "2026-04")
    )
    assert march.endswith(",2026-example\n")
    assert april.endswith(",later\n")


def test_a_product_that_only_another_list_knows(tmp_path):
    both = [PRICES, later_list(tmp_path, ocr="scanner")]
    new = line(event="booking", product="scanner", quantity=1)
    old = line(event="booking", product="ocr", quantity=1)
    dropped = line(event="booking", product="ocr", quantity=0).replace("03-02", "03-20")
    # It is known, and harmless while nobody uses it in the month.
    assert run(tmp_path, new.replace("03-02", "04-02"), old, prices=both, period="2026-03").exit_code == 0
    assert run(tmp_path, new, old, dropped, prices=both, period="2026-04").exit_code == 0
    # Used in the month, it would go unpriced.
    assert refused(run(tmp_path, GOOD, new, prices=both, period="2026-03"), "h1.jsonl:1:")
    assert refused(run(tmp_path, GOOD, old, prices=both, period="2026-04"), "h1.jsonl:1:")
