"""Serving clients: in this process, or in several that a parent starts, watches and drains."""
