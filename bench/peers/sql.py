"""Peer (c): the bare handler with PostgreSQL behind it, by asyncpg; one statement, one round trip and one commit a request.

Two designs of the acquire.  `counted`: the tenant's row is locked, its live leases are counted.  `guarded`: a counter
in the tenant's row, raised only while it is below the cap.  Durable as the server is by itself: fsync, synchronous commit.
"""

import sys
import time
from collections.abc import AsyncIterator

import asyncpg
from aiohttp import web

from bench.peers.bare import TTL_MS, Work, make_app, run

CONNECTIONS = 16
TENANT = "bench"

SCHEMA = """
CREATE TABLE tenants (id text PRIMARY KEY, cap int NOT NULL, in_use int NOT NULL DEFAULT 0);
CREATE TABLE leases (id text PRIMARY KEY, tenant text NOT NULL, holder text NOT NULL, client text NOT NULL,
                     expires_ms bigint NOT NULL);
CREATE INDEX leases_of_tenant ON leases (tenant, expires_ms);

CREATE FUNCTION acquire_counted(t text, l text, h text, c text, now_ms bigint, until_ms bigint) RETURNS bool AS $$
DECLARE seats int; used int;
BEGIN
  SELECT cap INTO seats FROM tenants WHERE id = t FOR UPDATE;
  SELECT count(*) INTO used FROM leases WHERE tenant = t AND expires_ms > now_ms;
  IF used >= seats THEN RETURN false; END IF;
  INSERT INTO leases VALUES (l, t, h, c, until_ms);
  RETURN true;
END $$ LANGUAGE plpgsql;

CREATE FUNCTION acquire_guarded(t text, l text, h text, c text, now_ms bigint, until_ms bigint) RETURNS bool AS $$
BEGIN
  UPDATE tenants SET in_use = in_use + 1 WHERE id = t AND in_use < cap;
  IF NOT found THEN RETURN false; END IF;
  INSERT INTO leases VALUES (l, t, h, c, until_ms);
  RETURN true;
END $$ LANGUAGE plpgsql;

CREATE FUNCTION release_counted(l text) RETURNS void AS $$
  DELETE FROM leases WHERE id = l;
$$ LANGUAGE sql;

CREATE FUNCTION release_guarded(l text) RETURNS void AS $$
  WITH gone AS (DELETE FROM leases WHERE id = l RETURNING tenant)
  UPDATE tenants SET in_use = in_use - 1 FROM gone WHERE id = gone.tenant;
$$ LANGUAGE sql;
"""


async def _make() -> web.Application:
    dsn, cap, design = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    pool: asyncpg.Pool

    async def open_pool(_: web.Application) -> AsyncIterator[None]:
        nonlocal pool
        async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
            await pool.execute(SCHEMA)
            await pool.execute("INSERT INTO tenants VALUES ($1, $2)", TENANT, cap)
            yield

    acquiring = f"SELECT acquire_{design}($1, $2, $3, $4, $5, $6)"
    releasing = f"SELECT release_{design}($1)"
    renewing = "UPDATE leases SET expires_ms = $2 WHERE id = $1"

    async def acquire(lease: str, user: str, client: str) -> int:
        now_ms = time.time_ns() // 1_000_000
        until_ms = now_ms + TTL_MS
        granted = await pool.fetchval(acquiring, TENANT, lease, user, client, now_ms, until_ms)
        return until_ms if granted else 0

    async def renew(lease: str) -> int:
        until_ms = time.time_ns() // 1_000_000 + TTL_MS
        await pool.execute(renewing, lease, until_ms)
        return until_ms

    async def release(lease: str) -> None:
        await pool.fetchval(releasing, lease)

    return make_app(Work(acquire, renew, release), open_pool)


if __name__ == "__main__":
    run(_make)
