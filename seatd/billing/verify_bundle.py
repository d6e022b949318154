"""Verify an evidence bundle of a closed month, with Python's standard library alone (3.11 or newer).

    python verify.py BUNDLE.tar.gz [--kid KID]        or, unpacked:  python verify.py FOLDER

This file lies in every bundle as `verify.py`, whole, which is why it is longer than others.  It reckons the
charges again from history and price list without a line of the program that rated them, holds every digest against the file that it is of, walks the
rows of the usage chain, and checks the signature of the month's manifest.  Whatever is not as it was written is named.
Whose key signed, the bundle alone cannot tell: compare the key id with the one that the vendor publishes, or pass it.
"""

import base64
import bisect
import hashlib
import io
import json
import struct
import sys
import tarfile
import tomllib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
Spans = list[tuple[int, int]]
Lines = list[dict[str, Any]]
Found = list[str]

CHARGES = "period,tenant,product,metric,from,to,weight,quantity,unit_price,net,vat_rate,currency,price_list"
COMMON = ("prices.toml", "verify.py")
SEAL = "seal.json"
SEALED_BYTES = 10 + 5 + 2048 + 8
BYTES_MAX = 1 << 31
FOREVER = 1 << 62


# --- the archive ---------------------------------------------------------------------------------------------


def tar_header(name: str, size: int) -> bytes:
    """Give the one header of a file in a bundle: no owner, no time."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def seal(packed: bytes) -> bytes:
    """Make what ends a bundle: a gzip member of one stored block, with the digest of all bytes before it."""
    said = canonical({"sha256": sha256(packed)})
    data = tar_header(SEAL, len(said)) + said.ljust(512, b"\0") + bytes(1024)
    stored = b"\x01" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + stored + struct.pack("<II", zlib.crc32(data), len(data))


def unpack(raw: bytes, found: Found) -> dict[str, bytes]:
    """Read the files of a bundle, as far as they can be read."""
    packed = raw[:-SEALED_BYTES]
    inflate, tar = zlib.decompressobj(31), b""
    reason = ""
    try:
        tar = inflate.decompress(packed, BYTES_MAX)
        if not inflate.eof or inflate.unused_data:
            reason = "the compressed bytes do not end where they should"
    except zlib.error:
        tar, reason = _as_far_as(packed), "the compressed bytes are damaged"
    files, last = _entries(tar, found)
    if SEAL in files:
        found.append(f"{SEAL}: stands among the files that were sealed")
    if reason:
        found.append(f"{last or 'archive'}: {reason} here or after it")
    if raw != packed + seal(packed):
        found.append(f"{SEAL}: the bytes of the archive are not those that were sealed")
    return files


def _as_far_as(packed: bytes) -> bytes:
    inflate, tar = zlib.decompressobj(31), b""
    try:
        for at in range(0, len(packed), 64):
            tar += inflate.decompress(packed[at : at + 64])
    except zlib.error:
        pass
    return tar


def _entries(tar: bytes, found: Found) -> tuple[dict[str, bytes], str]:
    files: dict[str, bytes] = {}
    last = ""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar + bytes(1024)), mode="r:") as archive:
            for info in archive:
                last = info.name if info.name.isprintable() else repr(info.name)
                opened = archive.extractfile(info) if info.isreg() else None
                data = opened.read() if opened else b""
                if info.tobuf(tarfile.USTAR_FORMAT) != tar_header(info.name, info.size) or info.name in files:
                    found.append(f"{last}: its entry in the archive was changed")
                files[info.name] = data
    except (tarfile.TarError, OSError, ValueError) as error:
        found.append(f"{last or 'archive'}: the archive cannot be read here ({error})")
    return files, last


# --- digests and the signature -------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """Write the one JSON text of a value."""
    return _text(value).encode() + b"\n"


def sha256(data: bytes) -> str:
    """Digest, in hex."""
    return hashlib.sha256(data).hexdigest()


def leaf(tenant: str, files: Mapping[str, Any]) -> bytes:
    """Digest what a tenant's files are, as a leaf of the month's tree."""
    return hashlib.sha256(b"\0" + canonical({"tenant": tenant, "files": files})).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Digest two nodes of the tree."""
    return hashlib.sha256(b"\1" + left + right).digest()


P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int, int, int]


def _add(a: Point, b: Point) -> Point:
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    return (f - e) * (h - g) % P, (h + g) * (f + e) % P, (h - g) * (h + g) % P, (f - e) * (f + e) % P


def _times(number: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = _add(result, point)
        point, number = _add(point, point), number >> 1
    return result


def _point(raw: bytes) -> Point | None:
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (not x and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def signed_by(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether an Ed25519 signature (RFC 8032) holds."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, r, s = _point(public), _point(signature[:32]), int.from_bytes(signature[32:], "little")
    base = _point(bytes([0x58]) + bytes([0x66]) * 31)
    if key is None or r is None or base is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = _times(s, base), _add(r, _times(h, key))
    return not any((left[i] * right[2] - right[i] * left[2]) % P for i in (0, 1))


def link_hash(prev: str, partition: int, pos: int, row: str) -> str:
    """Give the hash of a row of the chain (JSON text) at its place."""
    return sha256(f"{prev}:{partition}:{pos}:{row}".encode())


def decoded(text: object) -> bytes:
    """Read base64url; nothing where it is not written as it was."""
    raw = str(text).encode()
    data = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    return data if base64.urlsafe_b64encode(data).rstrip(b"=") == raw else b""


def thumbprint(x: str) -> str:
    """Name an Ed25519 key (RFC 7638)."""
    text = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


# --- a month again -------------------------------------------------------------------------------------------


def _ms(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


class Month:
    """A month in a time zone: its bounds, and its local days by quarters of an hour."""

    def __init__(self, period: str, zone: str) -> None:
        self.period, self.zone = period, ZoneInfo(zone)
        year, month = int(period[:4]), int(period[5:])
        self.start = self._first(year, month)
        self.end = self._first(year + month // 12, month % 12 + 1)
        marks = [self.start, *range(self.start + 900_000 - self.start % 900_000, self.end, 900_000)]
        self._dates = [(at, self.local(at).date()) for at in marks]

    def local(self, at: int) -> datetime:
        """Give the local time of an instant."""
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).astimezone(self.zone)

    def _first(self, year: int, month: int) -> int:
        at = _ms(f"{year:04}-{month:02}-01T00:00:00+00:00") - 16 * 3_600_000
        while (self.local(at).year, self.local(at).month) < (year, month):
            at += 60_000
        return at

    def text(self, at: int) -> str:
        """Write an instant as exports do."""
        return self.local(at).replace(microsecond=0).isoformat()

    def days(self, spans: Spans) -> int:
        """Count the local days that the spans touch."""
        days = set()
        for start, end in spans:
            first = bisect.bisect_right(self._dates, start, key=lambda mark: mark[0]) - 1
            for at, date in self._dates[first:]:
                if at >= end:
                    break
                days.add(date)
        return len(days)


def _common(one: Spans, other: Spans) -> Spans:
    both = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return sorted((start, end) for start, end in both if start < end)


def _held(settings: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, int, Any]]:
    """Say from when to when each setting held; of one instant the later."""
    by_instant = dict(settings)
    for at, end in pairwise([*sorted(by_instant), FOREVER]):
        yield at, end, by_instant[at]


def _steps(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    changes: dict[int, int] = {}
    for start, end in spans:
        changes[start] = changes.get(start, 0) + 1
        changes[end] = changes.get(end, 0) - 1
    steps, value = [], 0
    for at, end in pairwise([*sorted(changes), FOREVER]):
        value += changes[at]
        steps.append((at, end, value))
    return steps


def _over(steps: Iterable[tuple[int, int, int]], over: Spans) -> Iterator[tuple[int, int]]:
    """Give `(value, for how long)` within spans; several spans may be asked of many steps."""
    for a, b, value in steps:
        if b <= over[0][0] or a >= over[-1][1]:
            continue
        for c, d in over:
            if max(a, c) < min(b, d):
                yield value, min(b, d) - max(a, c)


def half_up(value: Fraction, places: int) -> Fraction:
    """Round halves away from zero."""
    scaled = abs(value) * 10**places + Fraction(1, 2)
    return Fraction(scaled.numerator // scaled.denominator, 10**places) * (-1 if value < 0 else 1)


def _plain(value: Fraction) -> str:
    digits = str(abs(value.numerator) * 10**12 // value.denominator).rjust(13, "0")
    return ("-" if value < 0 else "") + f"{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")


def _cents(value: Fraction) -> str:
    digits = str(int(abs(value) * 100)).rjust(3, "0")
    return ("-" if value < 0 else "") + f"{digits[:-2]}.{digits[-2:]}"


class Tenant:
    """One tenant's month, from the lines of its history."""

    def __init__(self, lines: Lines, month: Month) -> None:
        self.month = month
        self._lines = [{**line, "ms": _ms(line["at"])} for line in lines]
        self._whole: Spans = [(month.start, month.end)]
        tariffs = [(x["ms"], (x["tariff"], x.get("trial", False))) for x in self._of("tariff")]
        self._tariffs = list(_held(tariffs))

    def _of(self, event: str, product: str | None = None) -> Lines:
        return [x for x in self._lines if x["event"] == event and product in (None, x.get("product"))]

    def _time(self, wanted: Callable[[Any, bool], bool]) -> Spans:
        joined: Spans = []
        for start, end, (tariff, trial) in self._tariffs:
            if tariff and wanted(tariff, trial):
                if joined and joined[-1][1] == start:
                    start = joined.pop()[0]  # noqa: PLW2901 - one span with the one before
                joined.append((start, end))
        return _common(joined, self._whole)

    def named(self, product: str) -> list[Spans]:
        """Give when each user was named for a product."""
        users: dict[str, dict[int, bool]] = {}
        for line in self._lines:
            if line["event"] in ("bound", "unbound") and line["product"] == product:
                users.setdefault(line["user"], {})[line["ms"]] = line["event"] == "bound"
        return [[(a, b) for a, b, bound in _held(each.items()) if bound] for each in users.values()]

    def seats(self) -> list[tuple[int, int, int]]:
        """Give how many seats were open, service users aside."""
        ends = {line["lease"]: line["ms"] for line in self._of("seat_ended")}
        starts = {x["lease"]: x["ms"] for x in self._of("seat_started") if x.get("tariff") != "service"}
        return _steps((at, ends.get(lease, FOREVER)) for lease, at in starts.items())

    def charges(self, prices: Mapping[str, Any]) -> Iterator[str]:
        """Give the lines of `charges.csv`, without its header."""
        for product in sorted(prices["products"]):
            yield from self._charge(product, prices["products"][product], prices)

    def _charge(self, name: str, product: Mapping[str, Any], prices: Mapping[str, Any]) -> Iterator[str]:
        always = product.get("charged") == "always"
        tariff = product.get("tariff") or (name if name in ("team", "agent") else None)
        base = self._whole if always else self._time(lambda _, trial: not trial)
        over = _common(base, self._time(lambda have, _: have == tariff)) if tariff else base
        if not over:
            return
        usual = "flat" if not tariff and product.get("scope") == "tenant" else "distinct_named"
        metric = product.get("metric", "booked_peak" if tariff == "team" else usual)
        weight = Fraction(1)
        if tariff and metric in ("booked_peak", "used_peak", "distinct_named"):
            weight = Fraction(self.month.days(over), self.month.days(base))
        shown = self._whole if always else over
        head = [self.month.period, self._lines[0]["tenant"], name, metric]
        head += [self.month.text(shown[0][0]), self.month.text(shown[-1][1]), str(weight)]
        rate = prices["vat"][product.get("vat", "standard")]
        for part, price in _tiers(product, self._quantity(metric, name, over)):
            net = _cents(half_up(part * Fraction(price) * weight, 2))
            values = [*head, _plain(part), price, net, rate, prices["currency"], prices["version"]]
            yield ",".join(_quoted(value) for value in values)

    def _quantity(self, metric: str, name: str, over: Spans) -> Fraction:
        length = self.month.end - self.month.start
        if metric == "metered":
            readings = {
                x["id"]: Fraction(x["quantity"])
                for x in self._of("metered", name)
                if any(start <= x["ms"] < end for start, end in over)
            }
            return sum(readings.values(), Fraction(0))
        if metric in ("distinct_named", "named_average"):
            times = [sum(b - a for a, b in _common(spans, over)) for spans in self.named(name)]
            if metric == "distinct_named":
                return Fraction(sum(time > 0 for time in times))
            return half_up(Fraction(sum(times), length), 4)
        booked = _held((line["ms"], line["quantity"]) for line in self._of("booking", name))
        values = list(_over(self.seats() if metric in ("used_peak", "seat_hours") else booked, over))
        peak = max((value for value, _ in values), default=0)
        total = sum(value * time for value, time in values)
        if metric == "seat_hours":
            return half_up(Fraction(total, 3_600_000), 4)
        if metric == "booked_average":
            return half_up(Fraction(total, length), 4)
        return Fraction(int(peak > 0) if metric == "flat" else peak)


def _tiers(product: Mapping[str, Any], quantity: Fraction) -> Iterator[tuple[Fraction, str]]:
    tiers = product.get("tiers", [{"unit_price": product.get("unit_price")}])
    below = Fraction(0)
    for tier in tiers:
        top = Fraction(tier["up_to"]) if "up_to" in tier else max(quantity, below)
        if product.get("tiering") == "graduated" and quantity > below:
            yield min(quantity, top) - below, tier["unit_price"]
        elif product.get("tiering") != "graduated" and below < quantity <= top:
            yield quantity, tier["unit_price"]
        below = top


def _quoted(value: str) -> str:
    broken = any(sign in value for sign in ',"\n\r')
    return '"' + value.replace('"', '""') + '"' if broken else value


# --- evidence ------------------------------------------------------------------------------------------------

_FACTS = {
    "booked_peak": "booking",
    "booked_average": "booking",
    "flat": "booking",
    "distinct_named": "bound",
    "named_average": "bound",
    "metered": "metered",
    "used_peak": "seat",
    "seat_hours": "seat",
}
_WHAT = {"unbound": "bound", "seat_started": "seat", "seat_ended": "seat"}


def kind_of(event: str, product: str) -> tuple[str, str]:
    """Tell of what kind a line of a history is: what is said, of which product."""
    return _WHAT.get(event, event), product


def evidence(
    charges: list[list[str]], history: list[bytes], kinds: Iterable[tuple[str, str]], hashes: list[list[Any]]
) -> Iterator[bytes]:
    """Say for each charge which lines of the history are under it, and which rows of the usage chain.

    `kinds` are those of the history's lines, `hashes` partition, place and hash of each row.
    """
    ranges: dict[tuple[str, str], list[int]] = {}
    for number, kind in enumerate(kinds, 1):
        ranges.setdefault(kind, []).append(number)
    chained = sha256("".join(each[2] for each in hashes).encode())
    for number, row in enumerate(charges, 1):
        product, metric = row[2], row[3]
        what = _FACTS[metric]
        facts = []
        for key in (("tariff", ""), (what, "" if what == "seat" else product)):
            if numbers := ranges.get(key):
                part = b"".join(history[numbers[0] - 1 : numbers[-1]])
                facts.append({"what": key[0], "from": numbers[0], "to": numbers[-1], "sha256": sha256(part)})
        said: dict[str, Any] = {"line": number, "product": product, "facts": facts}
        if what == "seat" and hashes:
            first, last = hashes[0][:2], hashes[-1][:2]
            said["chain"] = {"rows": len(hashes), "from": first, "to": last, "sha256": chained}
        yield canonical(said)


def _walk(links: Lines, history: list[bytes], manifest: Mapping[str, Any], month: Month) -> Iterator[str]:
    """Hold the rows of the chain against their hashes, each other, the month's heads, and the seats in the history."""
    heads = {head["partition"]: head for head in manifest["chain"]}
    before: dict[str, Any] = {}
    for link in links:
        place = f"chain.jsonl: row {link['partition']}/{link['pos']}"
        if link_hash(link["prev"], link["partition"], link["pos"], link["row"]) != link["hash"]:
            yield f"{place} does not have its hash"
        after = (link["partition"], link["pos"] - 1) == (before.get("partition"), before.get("pos"))
        if after and link["prev"] != before["hash"]:
            yield f"{place} does not follow the row before it"
        head = heads.get(link["partition"], {"pos": 0})
        if link["pos"] == head["pos"] and link["hash"] != head["hash"]:
            yield f"{place} is not the head that the manifest has"
        before = link
    seats: dict[str, list[int]] = {}
    for raw in history:
        line = json.loads(raw)
        if line["event"] in ("seat_started", "seat_ended"):
            seats.setdefault(line["lease"], []).append(_ms(line["at"]))
    chained = {}
    for link in links:
        _, _, lease, _, _, started, ended, _ = json.loads(link["row"])
        chained[lease] = [started] if ended is None or ended >= month.end else [started, ended]
    # A lease whose start was never seen, or that ended as it began, is in no history.
    if seats != {lease: at for lease, at in chained.items() if None not in at and at == sorted(set(at))}:
        yield "history.jsonl: its seats are not those of chain.jsonl"


# --- all of it -----------------------------------------------------------------------------------------------


def check(files: Mapping[str, bytes], kid: str = "") -> Iterator[str]:
    """Name what is wrong with the files of a bundle; nothing where all of it holds."""
    try:
        envelope, own = json.loads(files["manifest.json"]), json.loads(files["tenant.json"])
        yield from _signed(files, envelope, own, kid)
        yield from _digests(files, envelope["signed"], own)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        yield f"manifest.json, tenant.json: cannot be read ({type(error).__name__}: {error})"
        return
    try:
        yield from _again(files, envelope["signed"])
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        IndexError,
        RecursionError,
    ) as error:
        yield f"history.jsonl, prices.toml: cannot be reckoned with ({type(error).__name__}: {error})"


def signed_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Give what the manifest of a bundle says."""
    return dict(json.loads(files["manifest.json"])["signed"])


def _forms(files: Mapping[str, bytes], envelope: dict[str, Any], own: dict[str, Any]) -> Iterator[str]:
    for name, value, keys in (
        ("manifest.json", envelope, {"signed", "signature"}),
        ("tenant.json", own, {"tenant", "files", "path"}),
    ):
        if files[name] != canonical(value):
            yield f"{name}: is not written as it was"
        if set(value) != keys:  # what else stands there is signed by nobody
            yield f"{name}: does not say what it should, and nothing else"


def signed_wrongly(signed: Any, signature: Any, kid: str) -> Iterator[str]:
    """Say what is wrong with the signature of a manifest; `kid` names the key that must have signed, if any must."""
    said = canonical({"alg": "Ed25519", "kid": thumbprint(signature["x"]), "x": signature["x"]})
    if canonical({key: signature[key] for key in signature if key != "value"}) != said:
        yield "manifest.json: its key is not what it says"
    if not signed_by(decoded(signature["x"]), canonical(signed), decoded(signature["value"])):
        yield "manifest.json: the signature does not hold"
    if kid and signature["kid"] != kid:
        yield f"manifest.json: was signed by the key {signature['kid']}, not by {kid}"


def _signed(
    files: Mapping[str, bytes], envelope: dict[str, Any], own: dict[str, Any], kid: str
) -> Iterator[str]:
    yield from _forms(files, envelope, own)
    signed, signature = envelope["signed"], envelope["signature"]
    yield from signed_wrongly(signed, signature, kid)
    at = leaf(own["tenant"], own["files"])
    for side, text in own["path"]:
        other = bytes.fromhex(text)
        if side not in ("left", "right") or text != other.hex():
            yield "tenant.json: its way up the tree is not written as it was"
        at = node(other, at) if side == "left" else node(at, other)
    if at.hex() != signed["tenants"]["root"]:
        yield "tenant.json: is not of the month that the manifest is of"


def _digests(files: Mapping[str, bytes], signed: dict[str, Any], own: dict[str, Any]) -> Iterator[str]:
    expected = {**own["files"], **{name: signed["files"][name] for name in COMMON}}
    for name in sorted({*expected, *files} - {"manifest.json", "tenant.json", SEAL}):
        if name not in files:
            yield f"{name}: is missing"
        elif name not in expected:
            yield f"{name}: does not belong there"
        elif {"bytes": len(files[name]), "sha256": sha256(files[name])} != expected[name]:
            yield f"{name}: was changed: its digest is not the one that was signed"


def _again(files: Mapping[str, bytes], signed: Mapping[str, Any]) -> Iterator[str]:
    prices = tomllib.loads(files["prices.toml"].decode())
    month = Month(signed["period"], signed["timezone"])
    history = files["history.jsonl"].splitlines(keepends=True)
    lines = [json.loads(raw) for raw in history]
    links = [json.loads(raw) for raw in files["chain.jsonl"].splitlines()]
    reckoned = list(Tenant(lines, month).charges(prices)) if lines else []
    stated = files["charges.csv"].decode().splitlines()
    for number in range(max(len(reckoned), len(stated) - 1)):
        pair = [(each[number : number + 1] or ["nothing"])[0] for each in (stated[1:], reckoned)]
        if pair[0] != pair[1]:
            yield f"charges.csv: line {number + 2} says {pair[0]}; reckoned again it is {pair[1]}"
    if stated[:1] != [CHARGES]:
        yield "charges.csv: line 1 is not the header"
    rows = [line.split(",") for line in reckoned]
    kinds = [kind_of(line["event"], line.get("product", "")) for line in lines]
    hashes = [[link["partition"], link["pos"], link["hash"]] for link in links]
    if b"".join(evidence(rows, history, kinds, hashes)) != files["evidence.jsonl"]:
        yield "evidence.jsonl: does not say what is under the charges"
    yield from _walk(links, history, signed, month)
    yield from _corrected(files)


def _corrected(files: Mapping[str, bytes]) -> Iterator[str]:
    """Reckon each corrected month again from `late.jsonl`: what is billed anew must be what it gives."""
    sections: list[tuple[dict[str, Any], Lines]] = []
    for raw in files["late.jsonl"].splitlines():
        line = json.loads(raw)
        if "prices" in line:
            sections.append((line, []))
        else:
            sections[-1][1].append(line)
    stated: dict[tuple[str, str], list[str]] = {}
    for text in files["corrections.csv"].decode().splitlines()[1:]:
        row, of = text.rsplit(",", 1)
        anew = stated.setdefault((of, row.split(",")[2]), [])
        if not row.split(",")[7].startswith("-"):
            anew.append(of + row[row.index(",") :])
    today: dict[tuple[str, str], list[str]] = {}
    for head, lines in sections:
        month = Month(head["period"], head["timezone"])
        for row in Tenant(lines, month).charges(tomllib.loads(head["prices"])):
            today.setdefault((head["period"], row.split(",")[2]), []).append(row)
    for (of, product), rows in stated.items():
        if rows != today.get((of, product), []):
            yield f"corrections.csv: {product} of {of} is not what late.jsonl gives"


def read(place: Path, found: Found) -> dict[str, bytes]:
    """Read a bundle: an archive as it came, or a folder that it was unpacked into."""
    if place.is_dir():
        return {each.name: each.read_bytes() for each in sorted(place.iterdir()) if each.is_file()}
    return unpack(place.read_bytes(), found)


def main(arguments: list[str]) -> int:
    """Verify what is named; 0: all of it holds, 1: something does not, 2: it cannot be read."""
    if len(arguments) not in (1, 3) or arguments[1:2] not in ([], ["--kid"]):
        sys.stderr.write("usage: python verify.py BUNDLE.tar.gz|FOLDER [--kid KID]\n")
        return 2
    found: Found = []
    try:
        files = read(Path(arguments[0]), found)
    except OSError as error:
        sys.stderr.write(f"{arguments[0]}: cannot be read: {error.strerror}\n")
        return 2
    found += check(files, *arguments[2:])
    for each in found:
        sys.stdout.write(f"{each}\n")
    if not found:
        envelope, own = json.loads(files["manifest.json"]), json.loads(files["tenant.json"])
        said = f"{own['tenant']}, {envelope['signed']['period']}: all of it holds"
        sys.stdout.write(f"{said}; signed by the key {envelope['signature']['kid']}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
