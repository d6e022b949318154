"""`python -m seatd`: the same as the command `seatd`."""

from seatd.cli.main import main

main()
