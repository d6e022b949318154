"""Commands: thin, one file a family; they speak the admin API of a running server."""
