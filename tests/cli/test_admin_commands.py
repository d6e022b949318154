"""Commands that speak the admin API: what they do, what people and programs read, how they fail."""

import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatd.cli.output import Output
from tests.cli.conftest import Ran, call, run
from tests.servers import SeatdProcess

Cli = Callable[..., Ran]
INSTANT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"


@pytest.fixture
def client_key(seatd: SeatdProcess, cli: Cli) -> Callable[[str], str]:
    return lambda tenant: cli("key", "add", tenant).out.strip()


def sit(seatd: SeatdProcess, key: str, user: str, client: str = "desk") -> Any:
    return seatd.client("POST", "/v1/leases", {"user": user, "client": client}, key=key).body


def test_a_tenant_from_first_to_last(seatd: SeatdProcess, cli: Cli, tenant: str) -> None:
    added = cli(
        "tenant",
        "add",
        tenant,
        "--name",
        "Acme [bold]",
        "--tariff",
        "team",
        "--seats",
        "5",
        "--label",
        "site=Köln",
    )
    assert (added.status, added.err) == (0, "")
    for said in ("Acme [bold]", "0 of 5 seats", "site=Köln", "in_force"):
        assert said in added.out
    assert re.search(rf"team since {INSTANT}", added.out)
    shown = cli("tenant", "show", tenant, "--json").json
    assert (shown["tenant"], shown["capacity"], shown["labels"]) == (tenant, 5, {"site": "Köln"})
    again = cli("tenant", "add", tenant, "--tariff", "agent")
    assert again.status == 1
    assert again.err.count("\n") == 1
    assert "already" in again.err
    changed = cli("tenant", "change", tenant, "--suspend", "--ttl-ms", "60000", "--json").json
    assert (changed["suspended"], changed["lease_ttl_ms"], changed["name"]) == (True, 60000, "Acme [bold]")
    assert cli("tenant", "change", tenant, "--resume", "--end-contract", "--json").json["tariff"] is None
    assert cli("tenant", "change", tenant).status == 2
    assert cli("tenant", "change", "nobody-there", "--name", "x").status == 1
    rows = [row for row in cli("tenant", "list").rows() if row[0] == tenant]
    assert rows == [[tenant, "Acme [bold]", tenant, "none", "0", "0", "0"]]
    assert tenant in [item["tenant"] for item in cli("tenant", "list", "--json").json["items"]]


def test_book_says_when_and_what_it_replaces(cli: Cli, tenant: str) -> None:
    cli("tenant", "add", tenant, "--tariff", "team", "--seats", "5")
    assert re.fullmatch(rf"9 team booked from {INSTANT}\.\n", cli("book", tenant, "team", "9").out)
    assert cli("book", tenant, "team", "4").status == 0
    replaced = cli("book", tenant, "team", "3", "--effective", "next_month")
    assert re.fullmatch(rf"3 team booked from {INSTANT}, in place of 4 from {INSTANT}\.\n", replaced.out)
    assert "already booked" in cli("book", tenant, "team", "3", "--effective", "next_month").out
    assert cli("book", tenant, "team", "7", "--json").json["replaced"]["quantity"] == 3
    assert cli("book", tenant, "team", "-1").status == 2
    assert cli("book", tenant, "team", "1", "--effective", "soon").status == 2


def test_bind_shows_each_result_and_fails_if_one_did(cli: Cli, tenant: str) -> None:
    cli("tenant", "add", tenant, "--tariff", "agent", "--seats", "2")
    assert cli("bind", tenant, "agent", "ana").rows() == [["user", "result"], ["ana", "bound"]]
    several = cli("bind", tenant, "agent", "ana", "ben", "cem", "a b")
    assert several.status == 1
    table = {row[0]: row[1] for row in several.rows()[1:]}
    assert table == {"ana": "was bound", "ben": "bound", "cem": "no_booking_left", "a b": "invalid_request"}
    assert cli("unbind", tenant, "agent", "ana", "ben").status == 0
    body = cli("bind", tenant, "agent", "dora", "--json").json
    assert body == {"items": [{"user": "dora", "result": "bound", "error": ""}]}


def test_a_list_is_whole_however_many_pages_it_takes(
    cli: Cli, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("tenant", "add", tenant)
    made = {cli("key", "add", tenant, "--json").json["id"] for _ in range(5)}
    monkeypatch.setattr("seatd.cli.client.PAGE", 2)
    listed = [item["id"] for item in cli("key", "list", tenant, "--json").json["items"]]
    assert listed == sorted(made)


def test_switch_who_and_revoke(seatd: SeatdProcess, cli: Cli, tenant: str, client_key: Any) -> None:
    cli("tenant", "add", tenant, "--tariff", "team", "--seats", "2")
    key = client_key(tenant)
    assert cli("who", tenant).out == f"Nobody sits at {tenant}.\n"
    lease = sit(seatd, key, "ana")["lease"]
    head, row = cli("who", tenant).rows()
    assert head == ["user", "client", "tariff", "since", "until", "ending", "lease"]
    assert (row[:3], row[-1]) == (["ana", "desk", "team"], lease)
    assert re.fullmatch(INSTANT, row[3])
    revoked = cli("revoke", tenant, lease)
    assert re.fullmatch(rf"ana's lease is revoked; the seat is free from {INSTANT}\.\n", revoked.out)
    assert cli("who", tenant, "--json").json["items"][0]["ending"] == "revoked"
    forced = cli("revoke", tenant, lease, "--force")
    assert "by force" in forced.out
    assert cli("who", tenant, "--json").json == {"items": []}
    assert cli("revoke", tenant, lease, "--force").status == 1
    switched = cli("switch", tenant, "agent", "--seats", "7", "--json").json
    assert (switched["tariff"], switched["capacity"]) == ("agent", 7)
    assert cli("switch", tenant, "gold").status == 2


def test_keys_are_shown_once_and_alone(seatd: SeatdProcess, cli: Cli, tenant: str) -> None:
    cli("tenant", "add", tenant, "--tariff", "team", "--seats", "2")
    made = cli("key", "add", tenant)
    assert re.fullmatch(rf"sc\.{tenant}\.[\w-]{{43}}\n", made.out)
    assert sit(seatd, made.out.strip(), "ana")["user"] == "ana"
    key_id = re.search(r"k_\w+", made.err)
    assert key_id
    listed = cli("key", "list", tenant)
    assert key_id[0] in listed.out
    assert made.out.strip() not in listed.out
    assert cli("key", "revoke", key_id[0], "--tenant", tenant).status == 0
    assert sit(seatd, made.out.strip(), "ben")["code"] == "unauthorized"
    billing = cli("key", "add", "--scope", "billing", "--expires", "2100-01-01T00:00:00+00:00", "--json").json
    assert (billing["scope"], billing["expires_ms"]) == ("billing", 4102444800000)
    assert billing["id"] in cli("key", "list").out
    for wrong in (
        ["key", "add"],
        ["key", "add", "--scope", "client"],
        ["key", "add", tenant, "--scope", "admin"],
    ):
        assert cli(*wrong).status == 2
    assert cli("key", "add", tenant, "--expires", "tomorrow").status == 2


def test_a_tenant_admin_works_with_its_own_key(cli: Cli, tenant: str) -> None:
    cli("tenant", "add", tenant, "--tariff", "agent", "--seats", "2")
    own = cli("key", "add", tenant, "--scope", "tenant_admin").out.strip()
    assert cli("bind", tenant, "agent", "ana", SEATD_ADMIN_KEY=own).status == 0
    refused = cli("tenant", "list", SEATD_ADMIN_KEY=own)
    assert (refused.status, refused.err) == (1, "Error: This key does not reach this. (forbidden)\n")


def test_audit_and_meter(cli: Cli, tenant: str) -> None:
    cli("tenant", "add", tenant, "--tariff", "agent", "--seats", "2")
    cli("bind", tenant, "agent", "ana")
    assert "7.5 pages counted" in cli("meter", tenant, "pages", "7.50", "--id", "m1").out
    assert "already counted" in cli("meter", tenant, "pages", "7.5", "--id", "m1").out
    assert "conflict" in cli("meter", tenant, "pages", "8", "--id", "m1").err
    table = cli("audit", "--tenant", tenant)
    assert "binding.bind" in table.out
    assert " ana " in table.out
    first = cli("audit", "--tenant", tenant, "--limit", "1")
    mark = re.fullmatch(r"There is more: --after (\d+)\n", first.err)
    assert mark
    rest = cli("audit", "--tenant", tenant, "--after", mark[1], "--json").json["items"]
    assert [row["seq"] > int(mark[1]) for row in rest] == [True] * len(rest)
    assert rest[-1]["action"] == "meter.report"


def test_a_pipe_gets_no_colours_and_whole_cells(cli: Cli, tenant: str) -> None:
    long = "n" * 128
    cli("tenant", "add", tenant, "--tariff", "team", "--seats", "2", "--name", long, "--customer", long)
    listed = cli("tenant", "list", COLUMNS="40", FORCE_COLOR="1")
    assert "\x1b" not in listed.out
    assert f"{long}  {long}" in listed.out


def test_the_key_comes_from_a_file_or_the_environment(seatd: SeatdProcess, tmp_path: Path) -> None:
    url = {"SEATD_URL": seatd.internal_url}
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(seatd.admin_key + "\n")
    bad.write_text("sa.two words")
    assert call("tenant", "list", "--key-file", str(good), **url).status == 0
    assert call("tenant", "list", SEATD_KEY_FILE=str(good), **url).status == 0
    assert call("tenant", "list", SEATD_DATA=str(seatd.data), **url).status == 0
    # A file that was named goes before the environment.
    assert call("tenant", "list", "--key-file", str(good), SEATD_ADMIN_KEY="sa.wrong", **url).status == 0
    binary = tmp_path / "binary"
    binary.write_bytes(os.urandom(64) + b"\xff")
    for path in (bad, binary, tmp_path / "none"):
        refused = call("tenant", "list", "--key-file", str(path), **url)
        assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
        assert "two words" not in refused.err
    wrong = call("tenant", "list", SEATD_ADMIN_KEY="sa." + "x" * 43, **url)
    assert (wrong.status, wrong.err) == (1, "Error: No valid key. (unauthorized)\n")


def test_nobody_there_is_one_sentence(seatd: SeatdProcess) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    key = {"SEATD_ADMIN_KEY": "sa." + "x" * 43}
    gone = call("bind", "t", "p", "u", "v", "--url", url, **key)
    assert (gone.status, gone.out) == (1, "")
    assert (
        gone.err
        == f"Error: No seatd answers at {url} (Connection refused): start it, or name another with --url or SEATD_URL.\n"
    )
    for wrong in ("ftp://x", "127.0.0.1:8471", "http://", "http://u:p@h:1", "http://h:99999"):
        refused = call("who", "t", "--url", wrong, **key)
        assert (refused.status, refused.err.count("\n")) == (2, 1), wrong
    public = call("who", "t", "--url", seatd.url, **key)
    assert (public.status, public.err.count("\n")) == (1, 1)


def test_no_proxy_ever_sees_the_key(seatd: SeatdProcess, cli: Cli) -> None:
    assert cli("tenant", "list", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9").status == 0


def test_the_same_from_a_real_process(seatd: SeatdProcess, cli: Cli, tenant: str) -> None:
    cli("tenant", "add", tenant, "--tariff", "team", "--seats", "2")
    known = {"SEATD_URL": seatd.internal_url, "SEATD_ADMIN_KEY": seatd.admin_key}
    assert run("tenant", "show", tenant, **known).out == cli("tenant", "show", tenant).out
    failed = run("tenant", "show", "nobody-there", **known)
    assert (failed.status, failed.out) == (1, "")
    assert failed.err == "Error: There is no tenant nobody-there. (not_found)\n"


def test_on_a_terminal_a_table_is_drawn_and_nothing_is_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    rows = [("[red]x[/red]", 1), ("y" * 40, None)]
    Output(as_json=False).table(("name", "n#"), rows, empty="none")
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert shown.count("y") == 40
