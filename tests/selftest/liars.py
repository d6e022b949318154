"""Servers that break a promise: a copy of seatd with a line or two of it changed, served as it is."""

import shutil
from pathlib import Path
from typing import NamedTuple

import seatd

SOURCE = Path(seatd.__file__).parent


class Edit(NamedTuple):
    """One place of a file under seatd/ that becomes another."""

    file: str
    line: str
    instead: str


LIES = {
    "cap": (
        Edit(
            "seats/lua/prelude.lua",
            "st.name, st.tariff, st.cap, st.ttl = p[1], p[2], tonumber(p[3]), tonumber(p[4])",
            "st.name, st.tariff, st.cap, st.ttl = p[1], p[2], tonumber(p[3]) + 1, tonumber(p[4])",
        ),
    ),
    "cap, a seat freed too early": (
        Edit(
            "seats/lua/prelude.lua",
            "local HWM = math.max(tonumber(opened[2] or 0), NOW)\nNOW = HWM\n",
            "local HWM = math.max(tonumber(opened[2] or 0), NOW)\nNOW = HWM\nQ = Q - 1200\n",
        ),
    ),
    "live": (
        Edit(
            "seats/lua/renew.lua",
            "  local at, reason = cut_at(st, rec)",
            "  if NOW % 5 > 0 then return {'lease_gone', 'expired'} end\n"
            "  local at, reason = cut_at(st, rec)",
        ),
    ),
    "leaks": (
        Edit(
            "seats/lua/prelude.lua",
            "local function sweep(st, seats, most)\n",
            "local function sweep(st, seats, most)\n  do return 0 end\n",
        ),
        Edit(
            "seats/lua/prelude.lua",
            "redis.call('ZCOUNT', st.s, '(' .. int(NOW - Q), '+inf')",
            "redis.call('ZCARD', st.s)",
        ),
    ),
    "requests": (
        Edit(
            "seats/lua/acquire.lua",
            "local function remember(rec, rid, fingerprint)\n",
            "local function remember(rec, rid, fingerprint)\n  if NOW then return end\n",
        ),
    ),
    "receipts": (
        Edit(
            "seats/lua/renew.lua",
            "if not rec or rec[LEASE] ~= lease or start < rec[START] then return gone(st, rec, op) end",
            "if not rec or rec[LEASE] ~= lease then return gone(st, rec, op) end",
        ),
    ),
    "revoking": (
        Edit(
            "seats/lua/renew.lua",
            "if rec[ENDED] ~= '' then return {'lease_gone', rec[ENDED]} end",
            "if rec[ENDED] == 'revoked' then rec[ENDED] = '' save_lease(st, user, rec) end",
        ),
    ),
    "ledger, an end is forgotten": (
        Edit(
            "seats/lua/prelude.lua",
            "  emit({'ended', st.name, at, rec[LEASE], user, reason})",
            "  if reason ~= 'taken_over' then emit({'ended', st.name, at, rec[LEASE], user, reason}) end",
        ),
    ),
    "ledger, an end is early": (
        Edit(
            "seats/lua/prelude.lua",
            "      finish(st, user, rec, 'expired', expires, expires)",
            "      finish(st, user, rec, 'expired', expires - 1, expires)",
        ),
    ),
}


def lying_copy(edits: tuple[Edit, ...], folder: Path) -> Path:
    """Copy seatd into a folder, with the lie in it."""
    copy = folder / "seatd"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        text = (copy / edit.file).read_text()
        assert text.count(edit.line) == 1, f"{edit.file} does not hold this once: {edit.line}"
        (copy / edit.file).write_text(text.replace(edit.line, edit.instead))
    return folder
