"""An evidence bundle: whatever is changed of it is found and named, and two ways to reckon a month agree."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seatd.billing import verify_bundle
from seatd.billing.bundle import pack, root, way_up
from seatd.billing.historyfile import read_history
from seatd.billing.verification import verify
from seatd.billing.verify_bundle import node
from seatd.database.engine import make_engine
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.flows.signing import Signer
from seatd.seats.receipts import Keyring
from tests.billing import oracle
from tests.billing.histories import PERIODS, ZONES, histories, jsonl, price_lists, toml
from tests.flows.history_rows import write_history

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
PRICES = (EXAMPLES / "prices.toml").read_text()
MARCH = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
LATER_MS = oracle.ms("2027-06-01T00:00:00+00:00")
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


async def bundles(
    database: Path, lines: list[bytes], prices: str, period: str
) -> tuple[dict[str, bytes], bytes]:
    """Close a month on a database of its own; give each tenant's bundle, and the charges."""
    engine = make_engine(f"sqlite:///{database}")
    try:
        await write_history(engine, [event for _, event in read_history(lines, "h")])
        lists = PriceLists(engine, lambda: LATER_MS)
        await lists.add(prices, actor="k")
        months = Months(engine, lists, clock=lambda: LATER_MS, waiting=lambda: 0)
        keys = Keyring.of("k", {"k": b"k" * 32})

        async def recorded() -> bool:
            return True

        closing = Closing(
            months,
            clock=lambda: LATER_MS,
            recorded=recorded,
            waiting=lambda: 0,
            signer=lambda: Signer(keys),
            waits=Waits(500, 2_000, 0),
        )
        month, _ = await closing.close(period, accept_gap=None, actor="k")
        closed = ClosedMonths(engine)
        tenants = (await closed.read(month, "tenants.jsonl")).splitlines()
        names = [json.loads(line)["tenant"] for line in tenants]
        made = {name: await closed.bundle(month, name) for name in names}
        return made, await closed.read(month, "charges.csv")
    finally:
        await engine.dispose()


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> bytes:
    database = tmp_path_factory.mktemp("evidence") / "seatd.db"
    shutil.copyfile(migrated_sqlite, database)
    prices = PRICES.replace('metric = "booked_peak"', 'metric = "used_peak"')  # the chain is under a charge
    made, _ = asyncio.run(bundles(database, MARCH, prices, "2026-03"))
    assert list(made) == ["acme", "birch", "cedar"]
    return made["acme"]


def wrong(raw: bytes) -> list[str]:
    found: list[str] = []
    files = verify_bundle.unpack(raw, found)
    return [*found, *verify_bundle.check(files)]


def files_of(raw: bytes) -> dict[str, bytes]:
    found: list[str] = []
    files = verify_bundle.unpack(raw, found)
    assert found == []
    return files


@given(st.data())
@QUICK
def test_a_changed_byte_anywhere_in_a_bundle_is_found(acme: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(acme) - 1))
    changed = acme[at] ^ data.draw(st.integers(1, 255))
    assert wrong(acme[:at] + bytes([changed]) + acme[at + 1 :])


@given(st.data())
@QUICK
def test_a_changed_byte_of_a_file_is_found_and_the_file_named(acme: bytes, data: st.DataObject) -> None:
    files = files_of(acme)
    name = data.draw(st.sampled_from(sorted(name for name in files if files[name])))
    raw = files[name]
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    found = list(verify_bundle.check(files | {name: changed}))
    assert any(name in each.partition(": ")[0] for each in found), found
    # Packed again as a bundle is, it is found all the same.
    assert any(name in each.partition(": ")[0] for each in wrong(b"".join(pack(files | {name: changed}))))


def test_what_is_missing_cut_or_added_is_found(acme: bytes, tmp_path: Path) -> None:
    files = files_of(acme)
    assert list(verify_bundle.check(files)) == []
    for name in files:
        rest = {each: files[each] for each in files if each != name}
        assert any(name in each for each in verify_bundle.check(rest))
    assert list(verify_bundle.check(files | {"more": b""})) == ["more: does not belong there"]
    for cut in (b"", acme[:1], acme[:500], acme[:-1], acme[:-2071], acme + b"\0", b"x" * 5_000):
        assert wrong(cut)
    (tmp_path / "folder").mkdir()
    for name, raw in files.items():
        (tmp_path / "folder" / name).write_bytes(raw)
    (tmp_path / "acme.tar.gz").write_bytes(acme)
    for place in (tmp_path / "folder", tmp_path / "acme.tar.gz"):
        assert verify(place) == ([], files)
    assert b"".join(pack(files)) == acme


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tenant.json", b'"left"', b'"lefu"'),
        ("tenant.json", b'"right"', b'"rught"'),
        ("tenant.json", b'{"files"', b'{"aaa":1,"files"'),
        ("manifest.json", b'{"signature"', b'{"aaa":1,"signature"'),
        ("prices.toml", b'unit_price = "39.00"', b'unit_price = "39/00"'),
    ],
)
def test_what_nobody_signed_is_found_too(acme: bytes, name: str, old: bytes, new: bytes) -> None:
    files = files_of(acme)
    if old in files[name]:
        changed = files | {name: files[name].replace(old, new, 1)}
        assert any(each.startswith(name) for each in verify_bundle.check(changed))
        assert any(name in each for each in wrong(b"".join(pack(changed))))


def test_digests_on_the_way_up_have_one_form(acme: bytes) -> None:
    files = files_of(acme)
    own = json.loads(files["tenant.json"])
    own["path"] = [[side, text.upper()] for side, text in own["path"]]
    assert own["path"]
    found = verify_bundle.check(files | {"tenant.json": verify_bundle.canonical(own)})
    assert list(found) == ["tenant.json: its way up the tree is not written as it was"] * len(own["path"])


def test_a_second_seal_is_found(acme: bytes) -> None:
    sealed = b"".join(pack(files_of(acme) | {verify_bundle.SEAL: b"{}"}))
    assert wrong(sealed) == [f"{verify_bundle.SEAL}: stands among the files that were sealed"]


def test_another_key_is_named(acme: bytes) -> None:
    files = files_of(acme)
    kid = Signer(Keyring.of("k", {"k": b"k" * 32})).kid
    assert list(verify_bundle.check(files, kid)) == []
    assert "was signed by the key" in "".join(verify_bundle.check(files, "another"))
    other = Signer(Keyring.of("k", {"k": b"x" * 32})).sign(verify_bundle.signed_of(files))
    assert list(verify_bundle.check(files | {"manifest.json": other})) == []  # only the key's id tells
    assert list(verify_bundle.check(files | {"manifest.json": other}, kid)) != []


def test_a_forger_who_signs_a_changed_bundle_does_not_get_round_the_reckoning(acme: bytes) -> None:
    """Digests, tree and signature made anew over a wrong charge: it is reckoned again."""
    files = files_of(acme)
    charges = (
        files["charges.csv"].replace(b"2340.00", b"2341.00").replace(b",120.00,120.00", b",120.00,121.00")
    )
    assert charges != files["charges.csv"]
    assert any(each.startswith("charges.csv: line") for each in verify_bundle.check(resigned(files, charges)))


def resigned(files: dict[str, bytes], charges: bytes) -> dict[str, bytes]:
    own = json.loads(files["tenant.json"])
    own["files"]["charges.csv"] = {"bytes": len(charges), "sha256": verify_bundle.sha256(charges)}
    own["path"] = []
    signed = verify_bundle.signed_of(files)
    signed["tenants"]["root"] = verify_bundle.leaf("acme", own["files"]).hex()
    manifest = Signer(Keyring.of("k", {"k": b"k" * 32})).sign(signed)
    return files | {
        "charges.csv": charges,
        "tenant.json": verify_bundle.canonical(own),
        "manifest.json": manifest,
    }


@given(st.integers(0, 40), st.data())
@settings(deadline=None)
def test_every_leaf_finds_its_way_to_the_root(count: int, data: st.DataObject) -> None:
    leaves = [bytes([number]) * 32 for number in range(count)]
    top = root(leaves)
    assert len(top) == 32
    for index, leaf in enumerate(leaves):
        at = leaf
        for side, other in way_up(leaves, index):
            at = node(bytes.fromhex(other), at) if side == "left" else node(at, bytes.fromhex(other))
        assert at == top
    if leaves:
        index = data.draw(st.integers(0, count - 1))
        assert root([*leaves[:index], b"x" * 32, *leaves[index + 1 :]]) != top


@st.composite
def cases(draw: Any) -> tuple[list[Any], dict[str, Any], str]:
    zone, period = draw(st.sampled_from(ZONES)), draw(st.sampled_from(PERIODS))
    return draw(histories(period, zone)), draw(price_lists(zone)), period


@pytest.fixture
def fresh(tmp_path: Path, migrated_sqlite: Path) -> Any:
    made = iter(range(1_000_000))

    def make() -> Path:
        path = tmp_path / f"{next(made)}.db"
        shutil.copyfile(migrated_sqlite, path)
        return path

    return make


@given(cases())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_month_closes_as_the_oracle_rates_it_and_its_bundles_hold(
    fresh: Any, tmp_path: Path, case: tuple[list[Any], dict[str, Any], str]
) -> None:
    lines, prices, period = case
    database = fresh()
    made, charges = asyncio.run(bundles(database, jsonl(lines), toml(prices), period))
    database.unlink()
    assert charges.decode() == oracle.charges_csv(lines, prices, period)
    for raw in made.values():
        (tmp_path / "b.tar.gz").write_bytes(raw)
        assert verify(tmp_path / "b.tar.gz")[0] == []
