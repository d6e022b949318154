"""What happened: usage stream -> recorder -> ledger, and interval arithmetic (pure)."""
