"""An operator's self-test: clients that behave badly, on a throwaway tenant, and a judge of what they saw.

It judges a deployment from outside, by its promises alone, so nothing else of seatd may be imported here; of seatd,
only this package may import the SDK (the extra `seatd[verify]`).

    plan -> tenant (made, and ended whatever happens) -> clients -> history -> checks -> findings

`history`, `sweep`, `checks` and `ledger` are pure.  `asking` sends and records, `clients` decides what is sent,
`run` how many clients for how long; `tenant` makes the tenant and ends it.
"""
