"""Bandwidth as people write it, in the grammar of Kubernetes' resource.Quantity, exactly.

    quantity  = [sign] digits [ "." [digits] ] suffix   (or "." digits)
    suffix    = "" n u m k M G T P E | Ki Mi Gi Ti Pi Ei | (e|E)[sign]digits

Source: k8s.io/apimachinery/pkg/api/resource/quantity.go. The same vectors run against Go's
parser and this one: tests/vectors/quantities.json.
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

_MAX_TEXT: Final = 256
_SUFFIXES: Final = {
    **{
        s: Fraction(10) ** e
        for s, e in zip(
            ("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), range(-9, 19, 3), strict=True
        )
    },
    **{s + "i": Fraction(1024) ** (i + 1) for i, s in enumerate("KMGTPE")},
}
_QUANTITY: Final = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([eE][+-]?[0-9]+)|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?))",
    re.ASCII,
)
_FIX: Final = "write a number with k, M, G or nothing behind it, such as 10M for 10 Mbit/s"


def parse_value(text: str) -> int | None:
    """What Go's ``Quantity.Value()`` gives for ``text`` (rounded up), or None if Go refuses it.

    Values above Go's int64 are returned as they are; every caller bounds them.
    """
    if len(text) > _MAX_TEXT:
        return None
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    sign, number, exponent, suffix = match.groups()
    if exponent is not None:
        power = int(exponent[1:])
        if abs(power) > _MAX_TEXT:
            return None
        scale = Fraction(10) ** power
    else:
        scale = _SUFFIXES[suffix]
    whole, _, fraction = number.partition(".")
    magnitude = Fraction(int((whole + fraction) or "0"), 10 ** len(fraction)) * scale
    value = -magnitude if sign == "-" else magnitude
    return -((-value.numerator) // value.denominator)


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
    return Problem(key, text, _why_not(text), _FIX)


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
