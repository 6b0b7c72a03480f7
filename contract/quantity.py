"""Bandwidth as people write it, in the grammar of Kubernetes' resource.Quantity, exactly.

    quantity  = [sign] [digits] ["." [digits]] suffix
    suffix    = "" n u m k M G T P E | Ki Mi Gi Ti Pi Ei | (e|E)[sign]digits

Source: k8s.io/apimachinery/pkg/api/resource/quantity.go. Its parser takes "." or "k" for 0. The
same vectors run against Go's parser and this one: tests/vectors/quantities.json.
"""

import re
from fractions import Fraction
from typing import Final

from contract.problems import Problem

MIN_BITS_PER_SECOND: Final = 10**3
"""1k, as Kubernetes' own pkg/util/bandwidth."""
MAX_BITS_PER_SECOND: Final = 10**15
"""1P, as Kubernetes' own pkg/util/bandwidth."""

MIN_BURST_BITS: Final = 1538 * 8
"""One full frame: 1514 bytes and what the wire adds."""

_INT64_MAX: Final = 2**63 - 1
_MAX_TEXT: Final = 4096
"""Longer ones are refused: Python's own limit for reading integers is not far."""
_MAX_POWER: Final = 10**4
"""Beyond it every number that fits into ``_MAX_TEXT`` is far over int64, or rounds to 1."""
_DECIMAL_POWERS: Final = {
    "": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_BINARY_SCALES: Final = {
    suffix: 1024**i for i, suffix in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], 1)
}
_QUANTITY: Final = re.compile(
    r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+)|([KMGTPE]i)|([numkMGTPE]?))", re.ASCII
)
_FIX: Final = "write a number with k, M, G or nothing behind it, such as 10M for 10 Mbit/s"


def parse_value(text: str) -> int | None:
    """What Go's ``Quantity.Value()`` gives for ``text``, or None if Go refuses it.

    Fractions are rounded away from zero. Beyond int64, where Go's own result is noise, this is a
    number beyond int64 too; every caller bounds it.
    """
    match = _QUANTITY.fullmatch(text) if 0 < len(text) <= _MAX_TEXT else None
    if match is None:
        return None
    sign, whole, fraction, exponent, binary, decimal = match.groups()
    fraction = fraction or ""
    power = int(exponent) if exponent is not None else _DECIMAL_POWERS[decimal or ""]
    if not -_INT64_MAX - 1 <= power <= _INT64_MAX:
        return None
    if not whole and not fraction:
        # Go's fast path takes no digits for 0; its slow path, for these suffixes, refuses them.
        return None if binary in {"Pi", "Ei"} or power < _DECIMAL_POWERS["n"] else 0
    # Whole numbers: a Fraction would look for common factors, which takes milliseconds.
    power = max(-_MAX_POWER, min(power, _MAX_POWER)) - len(fraction)
    number = int(whole + fraction) * _BINARY_SCALES.get(binary, 1)
    magnitude: int = number * 10**power if power >= 0 else -(-number // 10**-power)
    if binary is not None:
        magnitude = min(magnitude, _INT64_MAX)
    return -magnitude if sign == "-" else magnitude


def parse_bits_per_second(key: str, text: str) -> int | Problem:
    """A limit in bits per second, 1k to 1P, or what is wrong with ``text``."""
    value = _parse(key, text)
    if isinstance(value, Problem):
        return value
    if value < MIN_BITS_PER_SECOND:
        return Problem(
            key,
            text,
            "is below the smallest limit, 1k (1 kbit/s)",
            "write 1k or more, or leave it out for no limit",
        )
    if value > MAX_BITS_PER_SECOND:
        return Problem(
            key,
            text,
            "is above the largest limit, 1P",
            "write 1P or less, or leave it out for no limit",
        )
    return value


def parse_burst_bits(key: str, text: str) -> int | Problem:
    """A burst in bits, at least one frame of 1538 bytes, or what is wrong with ``text``."""
    value = _parse(key, text)
    if isinstance(value, Problem):
        return value
    if value < MIN_BURST_BITS:
        return Problem(
            key,
            text,
            "is less than one full frame (1538 bytes)",
            f"write {MIN_BURST_BITS} or more, or leave it out for the default",
        )
    if value > MAX_BITS_PER_SECOND:
        return Problem(key, text, "is above the largest burst, 1P", "leave it out for the default")
    return value


def _parse(key: str, text: str) -> int | Problem:
    value = parse_value(text)
    if value is not None:
        if text.startswith("-"):
            return Problem(key, text, "is negative", _FIX)
        return value
    return Problem(key, text, _why_not(text[:_MAX_TEXT]), _FIX)


def _why_not(text: str) -> str:
    if not text:
        return "is empty"
    if text != text.strip():
        return "has a space around it"
    if re.fullmatch(r"[0-9.]+K", text):
        return "ends in K, which is not a unit (kilo is a small k)"
    if re.search(r"(?i)bps|bit|b/s|b$", text):
        return "has a unit in it; the value is always bits per second"
    if "_" in text or "," in text:
        return "has a separator between its digits"
    return "is not a quantity"


def canonical_quantity(value: int) -> str:
    """``20M``: as the API server writes ``value`` back, so that both compare equal as texts."""
    for suffix in ("E", "P", "T", "G", "M", "k"):
        scale: int = 10 ** _DECIMAL_POWERS[suffix]
        if value and value % scale == 0:
            return f"{value // scale}{suffix}"
    return str(value)


def canonical_text(text: str) -> str:
    """A quantity as the API server writes it back: in the kind of suffix that it was written in.

    ``text`` is one that :func:`parse_value` reads, and not negative.
    """
    match, value = _QUANTITY.fullmatch(text), parse_value(text)
    if match is None or value is None:
        return text
    exponent, binary = match[4], match[5]
    if binary is not None and value >= 1024:
        power = max(n for n in range(7) if value % 1024**n == 0)
        suffix = dict(enumerate(_BINARY_SCALES, 1)).get(power, "")
        return f"{value // 1024**power}{suffix}"
    if exponent is not None:
        zeros = len(str(value)) - len(str(value).rstrip("0")) if value else 0
        power = zeros - zeros % 3
        return f"{value // 10**power}e{power}" if power else str(value)
    return canonical_quantity(value)


def format_bits_per_second(bits_per_second: int) -> str:
    """For people: ``10 Mbit/s``; the shortest exact decimal form."""
    for unit, scale in (
        ("Tbit/s", 10**12),
        ("Gbit/s", 10**9),
        ("Mbit/s", 10**6),
        ("kbit/s", 10**3),
    ):
        if bits_per_second >= scale:
            number = Fraction(bits_per_second, scale)
            text = f"{float(number):.6f}".rstrip("0").rstrip(".")
            return f"{text} {unit}"
    return f"{bits_per_second} bit/s"
