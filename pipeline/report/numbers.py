"""Numbers as the views write them: digits, units, signs."""

from __future__ import annotations

import math

from pipeline.results.choice import Ratio

DASH = "–"
MINUS = "\N{MINUS SIGN}"


def fixed(value: float | None, digits: int) -> str:
    """A number with so many digits after the point and thousands apart; a dash for what was not measured."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return str(value)
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return fixed(value, 0)


def percent(value: float | None) -> str:
    """A percentage (without its sign) or percentage points, to a hundredth."""
    return fixed(value, 2)


def ms(value: float | None) -> str:
    """Milliseconds: to the microsecond below 100 ms, to a tenth of one below 10 us."""
    if value is not None and 0 < value < 0.01:
        return fixed(value, 4)
    return fixed(value, 3 if value is None or value < 100 else 1)


def mb(value: float | None) -> str:
    """Megabytes (10^6 bytes), to three significant digits or the nearest kB."""
    return fixed(value, 3 if value is None or value < 10 else 1)


def rate(value: float | None) -> str:
    """Images per second."""
    return fixed(value, 0 if value is None or value >= 100 else 1)


def signed_drop(drop: float | None) -> str:
    """A drop as the change that it is: 0.31 lost is '−0.31', 0.05 gained '+0.05'."""
    if drop is None:
        return DASH
    text = fixed(-drop, 2)
    return text if text.startswith(MINUS) or not float(text) else f"+{text}"


def magnitude(value: float | None) -> str:
    """A small number by its order: '3.1e-06', shown as '3.1 × 10⁻⁶'."""
    if value is None:
        return DASH
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{power}"


def seconds(value: float | None) -> str:
    """A duration: '0.4 s', '12 s', '3 min 05 s'."""
    if value is None:
        return DASH
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def size(value: float | None) -> str:
    """Bytes as kB, MB or GB (powers of ten)."""
    if value is None:
        return DASH
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} B"


def ratio(found: Ratio) -> str:
    """How many times as long: '1.37 times as long (1.30 to 1.41)'; without an interval where there were no rounds."""
    if found.n == 1:
        return f"{fixed(found.ratio, 2)} times as long"
    return f"{fixed(found.ratio, 2)} times as long ({fixed(found.low, 2)} to {fixed(found.high, 2)})"


def share(part: float, whole: float) -> str:
    """A share: 'all', 'none', '97.3 %'."""
    if part == whole:
        return "all"
    return f"{fixed(100 * part / whole, 1)} %" if part and whole else "none"
