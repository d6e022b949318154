"""Fixtures that every test may use; servers are real, private to the run and shared where they start slowly."""
