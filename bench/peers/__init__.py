"""The peers that seatd is measured against: the same HTTP, the same encoding, less behind it."""
