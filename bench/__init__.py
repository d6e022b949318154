"""What is shown and measured against a real seatd: the demo (`make demo`), the benchmark (`make bench`)."""
