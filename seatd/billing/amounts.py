"""Exact amounts: rounding half up, and decimals as text.

Everything is integer, `Fraction` or `Decimal`; no float touches money, and no decimal context, with
its limit on digits, is asked.
"""

from decimal import Decimal
from fractions import Fraction


def round_half_up(value: Fraction, places: int) -> Decimal:
    """Round to a number of decimal places, halves away from zero; never gives a negative zero."""
    scaled = abs(value) * 10**places
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    sign = "-" if value < 0 and whole else ""
    return Decimal(f"{sign}{whole}E-{places}")


def plain(value: Decimal) -> str:
    """Write a decimal without trailing zeros and without exponent."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def exact_sum(values: list[Decimal]) -> Decimal:
    """Add decimals without rounding, however many digits the sum has."""
    places = max((_places(value) for value in values), default=0)
    return Decimal(f"{sum(int(Fraction(value) * 10**places) for value in values)}E-{places}")


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
