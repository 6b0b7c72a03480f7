"""A request as the user wrote it, made into limits; client and daemon read it the same way."""

from contract.api import TargetRequest
from contract.limits import Limit, Limits, make_limit
from contract.networks import parse_cidrs
from contract.problems import Problem
from contract.quantity import parse_bits_per_second, parse_burst_bits


def parse_limits(request: TargetRequest, key_prefix: str = "") -> Limits | tuple[Problem, ...]:
    """The limits asked for, or everything that is wrong with them.

    ``key_prefix`` is put before the keys of problems: ``--`` on a command line.
    """
    problems: list[Problem] = []

    def limit(key: str, rate: str | None, burst: str | None) -> Limit | None:
        burst_key = f"{key}-burst"
        bits_per_second = None if rate is None else parse_bits_per_second(key, rate)
        burst_bits = None if burst is None else parse_burst_bits(burst_key, burst)
        problems.extend(p for p in (bits_per_second, burst_bits) if isinstance(p, Problem))
        if burst is not None and rate is None:
            problems.append(
                Problem(burst_key, burst, f"has no effect without {key}", f"give {key} too")
            )
        if isinstance(bits_per_second, Problem) or isinstance(burst_bits, Problem):
            return None
        return None if bits_per_second is None else make_limit(bits_per_second, burst_bits)

    ingress = limit(f"{key_prefix}ingress", request.ingress, request.ingress_burst)
    egress = limit(f"{key_prefix}egress", request.egress, request.egress_burst)
    networks, bad_networks = parse_cidrs(f"{key_prefix}exempt", request.exempt_cidrs)
    problems.extend(bad_networks)
    if problems:
        return tuple(problems)
    return Limits(ingress, egress, request.mode, networks)
