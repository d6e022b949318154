"""An archived month as files: its leases and their part of the chain as Parquet, under a signed manifest.

Decides the form of an archive, and what it takes to hold one for true: every digest, every row of the chain after the one before
it, every lease as its row of the chain has it where that is in the same archive, and the signature.  Rows come as they are in the
database.  DuckDB does the reading and writing, and comes as the extra `parquet`; everything here blocks.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from seatd.billing.parquet import query, write_parquet
from seatd.billing.verify_bundle import canonical, link_hash, signed_wrongly
from seatd.usage.intervals import FOREVER_MS

FORMAT: Final = "seatd archive 1"
LEASES, CHAIN, MANIFEST = "leases.parquet", "chain.parquet", "manifest.json"
_BLOCK: Final = 1 << 20


class RowsFile:
    """Rows on their way into a Parquet file; use as a context manager, then call `finish`."""

    def __init__(self, folder: Path, name: str, columns: Sequence[str]) -> None:
        """Write beside `folder / name`, which is made by `finish`."""
        self._lines = folder / f"{name}.csv"
        self._target = folder / name
        self._file = self._lines.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        self._writer.writerow(columns)
        self.rows = 0

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows; None is nothing, a mapping its JSON."""
        for row in rows:
            self._writer.writerow([json.dumps(each) if isinstance(each, Mapping) else each for each in row])
            self.rows += 1

    def finish(self) -> dict[str, Any]:
        """Write the Parquet file, durably; gives its size, digest and number of rows.  Raises `NoParquetError`."""
        self._file.close()
        write_parquet(self._lines, self._target)
        self._lines.unlink()
        durable(self._target)
        return {**described(self._target), "rows": self.rows}

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def described(path: Path) -> dict[str, Any]:
    """Give a file's size and digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def durable(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def is_archive(place: Path) -> bool:
    """Tell whether a folder is an archived month."""
    return (place / LEASES).is_file()


def verify_archive(folder: Path, kid: str = "") -> tuple[list[str], dict[str, Any]]:
    """Name what is wrong with an archive, nothing where all of it holds; and give what its manifest says.

    Raises `OSError` where it cannot be read, `NoParquetError`.
    """
    raw = (folder / MANIFEST).read_bytes()
    try:
        envelope = json.loads(raw)
        signed = envelope["signed"]
        found = list(_signed(raw, envelope, kid))
        found += _digests(folder, signed["files"])
        if not found:
            found += _chained(folder, signed["chain"])
            found += _leases(folder, signed)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"{MANIFEST}: cannot be read ({type(error).__name__}: {error})"], {}
    return found, signed


def _signed(raw: bytes, envelope: Any, kid: str) -> Iterator[str]:
    if raw != canonical(envelope) or set(envelope) != {"signed", "signature"}:
        yield f"{MANIFEST}: is not written as it was"
    yield from signed_wrongly(envelope["signed"], envelope["signature"], kid)
    if envelope["signed"]["format"] != FORMAT:
        yield f"{MANIFEST}: is of another form"


def _digests(folder: Path, files: Mapping[str, Any]) -> Iterator[str]:
    names = {each.name for each in folder.iterdir()} - {MANIFEST}
    for name in sorted({*files, *names, LEASES, CHAIN}):
        if name not in names:
            yield f"{name}: is missing"
        elif name not in files:
            yield f"{name}: does not belong there"
        elif described(folder / name) != {each: files[name][each] for each in ("bytes", "sha256")}:
            yield f"{name}: was changed: its digest is not the one that was signed"


def _chained(folder: Path, parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    ends = {part["partition"]: part for part in parts}
    last = {partition: (part["from_pos"] - 1, part["prev"]) for partition, part in ends.items()}
    rows = f"SELECT partition, pos, row, hash FROM read_parquet('{_quoted(folder / CHAIN)}') ORDER BY partition, pos"  # noqa: S608 - a path, quoted
    for partition, pos, row, hashed in query(rows):
        before, prev = last.get(partition, (None, ""))
        if before is None or pos != before + 1 or link_hash(prev, partition, pos, row) != hashed:
            yield f"{CHAIN}: row {pos} of partition {partition} does not follow the one before it"
            return
        last[partition] = (pos, hashed)
    for partition, part in ends.items():
        if last[partition] != (part["to_pos"], part["hash"]):
            yield f"{CHAIN}: partition {partition} does not end where it should"


def _leases(folder: Path, signed: Mapping[str, Any]) -> Iterator[str]:
    columns = "l.tenant, l.lease, l.person, l.tariff, l.started_ms, l.ended_ms, l.end_reason, c.row"
    rows = (
        f"SELECT {columns} FROM read_parquet('{_quoted(folder / LEASES)}') l"  # noqa: S608 - paths, quoted
        f" LEFT JOIN read_parquet('{_quoted(folder / CHAIN)}') c ON c.partition = l.partition AND c.pos = l.pos"
    )
    number = 0
    for *values, row in query(rows):
        number += 1
        tenant, lease, _, _, started_ms, ended_ms, _ = values
        begin = ended_ms if started_ms is None else started_ms
        if (
            not signed["from_ms"]
            <= begin
            <= (FOREVER_MS if ended_ms is None else ended_ms)
            <= signed["to_ms"]
        ):
            yield f"{LEASES}: {lease} of {tenant} is not of this month"
        if row is not None and json.loads(row) != ["lease", *values]:
            yield f"{LEASES}: {lease} of {tenant} is not what {CHAIN} has"
    if number != signed["files"][LEASES]["rows"]:
        yield f"{LEASES}: has {number} rows, not {signed['files'][LEASES]['rows']}"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
