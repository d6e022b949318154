"""Transports only: decode, call, encode.  No business lives here."""
