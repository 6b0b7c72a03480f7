"""What is said of one direction of a pod or a target, wherever it is said."""

from contract.limits import Sharing
from contract.quantity import format_bits_per_second


def describe_bandwidth(
    bits_per_second: int | None, sharing: Sharing, of_whom: str, booked: int | None = None
) -> str:
    """``100 Mbit/s, 20 Mbit/s of it guaranteed, 20 Mbit/s booked, of 1 Gbit/s OF_WHOM``; empty:
    nothing holds it.

    ``bits_per_second`` is its own limit; ``of_whom`` says whose the total is; ``booked`` is what
    the scheduler keeps for it, in bits per second.
    """
    parts = [] if bits_per_second is None else [format_bits_per_second(bits_per_second)]
    if sharing.request_bits_per_second:
        of_it = "" if bits_per_second is None else " of it"
        parts.append(f"{format_bits_per_second(sharing.request_bits_per_second)}{of_it} guaranteed")
    if booked is not None:
        parts.append(f"{format_bits_per_second(booked)} booked")
    if sharing.total_bits_per_second is not None:
        parts.append(f"of {format_bits_per_second(sharing.total_bits_per_second)} {of_whom}")
    return ", ".join(parts)
