"""The engine, the schema and its migrations."""
