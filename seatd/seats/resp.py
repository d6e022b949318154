"""Commands as the store reads them (RESP, arrays of bulk strings): sans-IO.

The client library writes each argument by itself, and a call for many tenants has a dozen keys of each; here what does not
change is written once and kept by whoever needs it again.
"""

Part = bytes | str | int


def bulk(part: Part) -> bytes:
    """Write one argument; text in UTF-8, a number in decimal."""
    raw = part if isinstance(part, bytes) else str(part).encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def bulks(*parts: Part) -> bytes:
    """Write several arguments, one after the other."""
    return b"".join(map(bulk, parts))


def joined(count: int, *written: bytes) -> bytes:
    """Write a command of `count` arguments that are written already."""
    return b"*%d\r\n%b" % (count, b"".join(written))


def command(*parts: Part) -> bytes:
    """Write a command."""
    return joined(len(parts), bulks(*parts))
