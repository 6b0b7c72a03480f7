"""Numbers as people read them."""

FULL_FRAME_GOODPUT = 1448 / 1514
"""Payload of full frames over IPv4, as a part of the frame bytes that limits count: 0.956."""


def rate_text(bits_per_sec: float) -> str:
    """``95.6 Mbit/s``"""
    for unit, name in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits_per_sec >= unit:
            return f"{bits_per_sec / unit:.3g} {name}"
    return f"{bits_per_sec:.0f} bit/s"


def limit_text(bits_per_sec: int) -> str:
    """``100M``, as limits are written."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if bits_per_sec % unit == 0:
            return f"{bits_per_sec // unit}{name}"
    return str(bits_per_sec)


def utilisation(goodput_bits_per_sec: float, limit_bits_per_sec: float) -> float:
    """Goodput as a part of the most that full frames can carry within the limit."""
    return goodput_bits_per_sec / (FULL_FRAME_GOODPUT * limit_bits_per_sec)
