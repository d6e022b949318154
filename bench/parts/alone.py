"""What stands without the web: the scripts in batches, small and large tenants, few and many, memory, the ledger."""

from bench import ledger, scripts
from bench.parts import Bench

MEMORY_LEASES = 50_000
LEDGER_LEASES = 20_000


async def batches(bench: Bench) -> None:
    """Renew by script calls of 64 and 256, fsynced always and not at all."""
    bench.found["scripts"] = [
        *await scripts.batches(bench.seconds / 2, "always"),
        *await scripts.batches(bench.seconds / 2, "no"),
    ]


async def sizes(bench: Bench) -> None:
    """Renew leases of ever larger tenants."""
    rows, left_out = await scripts.sizes(bench.seconds / 2, full=not bench.quick)
    bench.found["sizes"] = rows
    bench.left_out += [f"sizes: {size:,} leases, which took too long to seat" for size in left_out]


async def tenants(bench: Bench) -> None:
    """Renew leases of ever more tenants."""
    bench.found["tenants"] = await scripts.tenants(bench.seconds / 2)


async def memory(bench: Bench) -> None:
    """Weigh a live lease in the store."""
    bench.found["memory"] = await scripts.memory(MEMORY_LEASES // (5 if bench.quick else 1))


async def ingest(bench: Bench) -> None:
    """Record usage events on each database."""
    leases = LEDGER_LEASES // (5 if bench.quick else 1)
    bench.found["ledger"] = await ledger.ingest(leases, bench.database(driver=True))
