"""`seatd billing ...` against a real server, and the parts that need none."""

import json
import socket
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from seatd.billing.months import instant_text
from seatd.cli.main import main
from tests.servers import SeatdProcess

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
PRICES = EXAMPLES / "prices.toml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = SeatdProcess(folder=tmp_path_factory.mktemp("billing"))
    made.start()
    yield made
    made.remove()


def run(server: SeatdProcess, *arguments: str, **environ: str) -> Result:
    environ = {"SEATD_URL": server.internal_url, "SEATD_ADMIN_KEY": server.admin_key, **environ}
    return CliRunner().invoke(main, ["billing", *arguments], env=environ)


def test_a_month_from_the_command_line(server: SeatdProcess, tmp_path: Path) -> None:
    nothing = run(server, "preview", "2026-03")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert nothing.stderr == "Error: No price list is in force in 2026-03. (no_price_list)\n"
    assert run(server, "prices", "list").stdout == "There is no price list.\n"

    added = run(server, "prices", "add", str(PRICES))
    assert (added.exit_code, added.stdout) == (
        0,
        "Price list 2026-example, valid from 2026-01-01, was added.\n",
    )
    assert run(server, "prices", "add", str(PRICES)).stdout.endswith("stood already.\n")
    assert json.loads(run(server, "prices", "list", "--json").stdout)[0]["version"] == "2026-example"

    server.tenant("acme", tariff="team", seats=50)
    month = server.admin("GET", "/v1/audit?limit=1").body["items"][0]["at_ms"]
    period = _period(month)
    shown = run(server, "preview", period)
    assert shown.exit_code == 0, shown.output
    assert "acme" in shown.stdout
    assert "1950.00" in shown.stdout
    body = json.loads(run(server, "preview", period, "--json").stdout)
    assert [each["net"] for each in body["tenants"]] == ["1950.00"]

    printed = run(server, "export", period)
    assert ",acme,team,booked_peak," in printed.stdout
    lines = run(server, "export", period, "--what", "charges", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["net"] for line in lines] == ["1950.00"]
    target = tmp_path / "charges.csv"
    assert run(server, "export", period, "-o", str(target)).exit_code == 0
    assert target.read_text() == printed.stdout
    assert list(tmp_path.iterdir()) == [target]
    missing = run(server, "export", period, "-o", str(tmp_path / "none" / "x.csv"))
    assert (missing.exit_code, missing.stdout) == (1, "")


def _period(at_ms: int) -> str:
    return instant_text(at_ms, "Europe/Berlin")[:7]


def test_a_price_list_is_checked_without_a_server(tmp_path: Path) -> None:
    right = CliRunner().invoke(main, ["billing", "prices", "check", str(PRICES)])
    assert (right.exit_code, right.stderr) == (0, "")
    wrong = tmp_path / "prices.toml"
    wrong.write_text(PRICES.read_text().replace('"39.00"', "39.00"))
    for command in ("check", "add"):
        options = ["--url", "http://127.0.0.1:1"] if command == "add" else []
        refused = CliRunner().invoke(
            main, ["billing", "prices", command, str(wrong), *options], env={"SEATD_ADMIN_KEY": "sa.x"}
        )
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"{wrong}:15: products.team.unit_price" in refused.stderr


def test_nobody_answers() -> None:
    environ = {"SEATD_ADMIN_KEY": "sa.x", "SEATD_URL": "http://127.0.0.1:1"}
    failed = CliRunner().invoke(main, ["billing", "preview", "2026-03"], env=environ)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: No seatd answers at http://127.0.0.1:1")


@pytest.mark.parametrize("head", ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_file_that_breaks_off_is_not_there(head: str, tmp_path: Path) -> None:
    target = tmp_path / "charges.csv"
    target.write_text("of before")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                said = "A\r\nperiod,ten\r\n" if "chunked" in head else "period,ten"
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n{head}\r\n{said}".encode())

        answering = Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        environ = {"SEATD_URL": url, "SEATD_ADMIN_KEY": "k"}
        arguments = ["billing", "export", "2026-03", "-o", str(target)]
        done = CliRunner().invoke(main, arguments, env=environ)
        answering.join()
    assert done.exit_code == 1, done.output
    assert "broke off in the middle" in done.stderr
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"charges.csv": "of before"}


def test_questions_about_a_month(server: SeatdProcess, tmp_path: Path) -> None:
    assert run(server, "prices", "add", str(PRICES)).exit_code == 0
    key = server.tenant("asks", tariff="team", seats=3)
    period = _period(server.admin("GET", "/v1/audit?limit=1").body["items"][0]["at_ms"])
    for number in range(2):
        body = {"user": f"u{number}", "client": "desk"}
        assert server.client("POST", "/v1/leases", body, key=key).status == 201
    told = json.loads(run(server, "preview", "--tenant", "asks", "--json").stdout)
    assert [(each["to_date"], each["projected"]) for each in told["tenants"]] == [("117.00", "117.00")]
    assert "+117.00  Team is new: 3 booked at the most." in run(server, "preview", "--tenant", "asks").stdout
    assert "asks: +117.00" in run(server, "preview", period).stdout

    assert run(server, "advise", "--tenant", "nobody").exit_code == 1
    deadline = time.monotonic() + 10
    advice = json.loads(run(server, "advise", "--tenant", "asks", "--json").stdout)
    while advice["peak"] < 2 and time.monotonic() < deadline:  # the recorder has yet to come by
        time.sleep(0.05)
        advice = json.loads(run(server, "advise", "--tenant", "asks", "--json").stdout)
    assert (advice["as_it_is"], advice["team"], advice["agent"]) == ("117.00", "78.00", "98.00")
    assert advice["seats"][-1] == {"seats": 1, "net": "39.00", "refused": 1}
    shown = run(server, "advise", "--tenant", "asks").stdout
    assert "Team with 2 seats, as the peak wanted" in shown

    witnesses = run(server, "peak", "--tenant", "asks").stdout
    assert "2 sat at" in witnesses
    assert "u0" not in witnesses
    assert "u0" in run(server, "peak", "--tenant", "asks", "--names").stdout

    supposed = run(server, "what-if", period, "--months", "1", "--quantity", "team=1", "--tenant", "asks")
    assert "117.00 EUR  39.00 EUR" in " ".join(supposed.stdout.split()).replace("EUR ", "EUR  ")
    assert run(server, "what-if", period, "--quantity", "team").exit_code == 2
    assert run(server, "what-if", period, "--price-list", str(tmp_path / "none")).exit_code == 2


def test_a_month_is_closed_exported_and_verified(server: SeatdProcess, tmp_path: Path) -> None:
    run(server, "prices", "add", str(PRICES))
    server.tenant("closing")
    at_ms = 1_773_000_000_000  # in March 2026
    delivered = {"product": "support_basic", "quantity": "2.5", "id": "T-1", "at_ms": at_ms}
    assert server.admin("POST", "/v1/tenants/closing/meter", delivered).status in (200, 201)

    early = run(server, "close", _period(server.admin("GET", "/v1/audit?limit=1").body["items"][0]["at_ms"]))
    assert (early.exit_code, early.stdout) == (1, "")
    assert early.stderr.endswith(" on. (not_over)\n")
    unclosed = run(server, "export", "2026-03", "--file", "history.jsonl")
    assert (unclosed.exit_code, unclosed.stdout) == (1, "")

    closed = run(server, "close", "2026-03")
    assert closed.exit_code == 0, closed.output
    assert closed.stdout.startswith("2026-03 is closed: net 225.00 EUR, 1 tenants; signed by ")
    kid = json.loads(run(server, "close", "2026-03", "--json").stdout)["kid"]
    again = {**delivered, "id": "T-2"}
    assert server.admin("POST", "/v1/tenants/closing/meter", again).status in (200, 201)
    assert run(server, "export", "2026-03").stdout.count("2.5,90.00,225.00") == 1
    assert '"status": "closed"' in run(server, "preview", "2026-03", "--json").stdout
    shown = run(server, "preview", "2026-03")
    assert (shown.exit_code, "225.00" in shown.stdout) == (0, True), shown.output
    run(server, "close", "2026-04")
    corrected = run(server, "export", "2026-04", "--file", "corrections.csv").stdout.splitlines()
    assert [row.split(",")[9] for row in corrected[1:]] == ["-225.00", "450.00"]

    bundle = tmp_path / "closing.tar.gz"
    assert run(server, "export", "2026-03", "--evidence", "closing", "-o", str(bundle)).exit_code == 0
    for options, status in (((), 0), (("--kid", kid), 0), (("--kid", "another"), 1)):
        verified = CliRunner().invoke(main, ["billing", "verify", str(bundle), *options])
        assert verified.exit_code == status, verified.output
    raw = bytearray(bundle.read_bytes())
    raw[len(raw) // 3] ^= 1
    bundle.write_bytes(raw)
    assert CliRunner().invoke(main, ["billing", "verify", str(bundle)]).exit_code == 1
    missing = CliRunner().invoke(main, ["billing", "verify", str(tmp_path / "none")])
    assert (missing.exit_code, missing.stdout) == (2, "")
    both = run(server, "export", "2026-03", "--file", "usage.csv", "--evidence", "closing")
    assert both.exit_code == 2


def test_a_closed_month_is_archived_and_verified(server: SeatdProcess) -> None:
    run(server, "prices", "add", str(PRICES))
    refused = run(server, "archive", "2026-02")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "is not closed" in refused.stderr
    closed = json.loads(run(server, "close", "2026-02", "--json").stdout)
    done = run(server, "archive", "2026-02")
    folder = Path(server.folder) / "data" / "archive" / "2026-02"
    assert (done.exit_code, done.stdout) == (0, f"2026-02 is archived: 0 leases in {folder}.\n"), done.output
    assert "was archived before" in run(server, "archive", "2026-02").stdout
    for options, status in (((), 0), (("--kid", closed["kid"]), 0), (("--kid", "another"), 1)):
        verified = CliRunner().invoke(main, ["billing", "verify", str(folder), *options])
        assert verified.exit_code == status, verified.output
    assert run(server, "export", "2026-02").exit_code == 0
    asked = run(server, "what-if", "2026-02")
    assert (asked.exit_code, "2026-02 is archived" in asked.stderr) == (1, True), asked.output
