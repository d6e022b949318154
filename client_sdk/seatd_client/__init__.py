"""Hold a seat of a seatd server while a program runs."""
