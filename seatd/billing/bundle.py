"""The evidence bundle of a tenant, and the tree that binds each tenant's files to the manifest of the month.

A bundle is a gzip'd tar of fixed names, owners and times, ended by a seal over all bytes before: the same files give the
same bytes.  The tree has a leaf a tenant, in code-point order; whoever has a leaf's way up can hold it against the
root without seeing anybody else's.  The forms are those that `verify_bundle` reads; it has them, too.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from seatd.billing.verify_bundle import node, seal, tar_header

_EMPTY = sha256(b"\0").digest()
_LEVEL = 6


def root(leaves: Sequence[bytes]) -> bytes:
    """Give the root of a tree; a node without a neighbour goes up as it is."""
    level = list(leaves) or [_EMPTY]
    while len(level) > 1:
        level = _above(level)
    return level[0]


def way_up(leaves: Sequence[bytes], index: int) -> list[list[str]]:
    """Give the neighbours of a leaf from the bottom up: `["left" | "right", hex]`."""
    way: list[list[str]] = []
    level = list(leaves)
    while len(level) > 1:
        other = index ^ 1
        if other < len(level):
            way.append(["left" if other < index else "right", level[other].hex()])
        level, index = _above(level), index // 2
    return way


def _above(level: Sequence[bytes]) -> list[bytes]:
    pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
    return [node(*pair) if len(pair) == 2 else pair[0] for pair in pairs]


def pack(files: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the bytes of a bundle; files in the order of their names."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    packed = b""
    for name in sorted(files):
        data = files[name]
        padding = bytes(-len(data) % 512)
        packed += deflate.compress(tar_header(name, len(data)) + data + padding)
    packed += deflate.flush()
    yield packed
    yield seal(packed)
