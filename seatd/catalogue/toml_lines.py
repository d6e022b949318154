"""Find the line of a TOML text at which a key stands, so that an error can name it.

The parser of the standard library forgets lines.  This looks for headers and keys as people write
them; a key in an unusual spelling is answered with the nearest table above it.  It never decides
whether a text is valid.
"""

import re
from typing import Final

_HEADER: Final = re.compile(r"\s*\[\[?\s*(?P<name>[^\]]+?)\s*\]")
_KEY: Final = re.compile(r"\s*(?P<name>[^=#\[]+?)\s*=")
_PART: Final = re.compile(r'"(?P<double>[^"]*)"|\'(?P<single>[^\']*)\'|(?P<bare>[A-Za-z0-9_-]+)')


def line_of(text: str, path: tuple[str, ...]) -> int:
    """Return the line, from 1, of a dotted key, or of the nearest key or header above it."""
    best, depth = 1, 0
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            table = here = _parts(header["name"])
        elif key := _KEY.match(line):
            here = (*table, *_parts(key["name"]))
        else:
            continue
        if depth < len(here) and here == path[: len(here)]:
            best, depth = number, len(here)
    return best


def _parts(name: str) -> tuple[str, ...]:
    found = _PART.finditer(name)
    return tuple(part["double"] or part["single"] or part["bare"] or "" for part in found)
