"""The text of a chain's row: one JSON, however quickly it is written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from seatd.usage.chain import row_text

TEXTS = st.text() | st.text(st.characters(max_codepoint=0x9F)) | st.text('"\\/\x7f\x00\x1f\u2028')


@given(st.lists(TEXTS | st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_rows_are_what_the_standard_library_writes(values: list[str | int | None]) -> None:
    assert row_text(tuple(values)) == json.dumps(values, separators=(",", ":"))
