"""Who sits, now: the hot path.  Only the Lua scripts beside store.py change seats."""
