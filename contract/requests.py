"""A request as the user wrote it, made into limits; client and daemon read it the same way."""

import re
from typing import Final

from contract.api import TargetRequest
from contract.limits import Limit, Limits, Sharing, make_limit, named_group
from contract.networks import parse_cidrs
from contract.problems import Problem
from contract.quantity import (
    format_bits_per_second,
    parse_bits_per_second,
    parse_burst_bits,
)

_GROUP: Final = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", re.ASCII)


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

    def bits(key: str, text: str | None) -> int | None:
        value = None if text is None else parse_bits_per_second(key, text)
        if isinstance(value, Problem):
            problems.append(value)
            return None
        return value

    def sharing(key: str, own: Limit | None, request: str | None, total: str | None) -> Sharing:
        asked = bits(f"{key}-request", request) or 0
        if own is not None and asked > own.bits_per_second:
            most = format_bits_per_second(own.bits_per_second)
            problems.append(
                Problem(
                    f"{key}-request",
                    request or "",
                    f"is above {key}, {most}: never more than the limit is let through",
                    f"lower {key}-request or raise {key}",
                )
            )
        return Sharing(asked, bits(f"{key}-total", total))

    ingress = limit(f"{key_prefix}ingress", request.ingress, request.ingress_burst)
    egress = limit(f"{key_prefix}egress", request.egress, request.egress_burst)
    shares = (
        sharing(f"{key_prefix}ingress", ingress, request.ingress_request, request.ingress_total),
        sharing(f"{key_prefix}egress", egress, request.egress_request, request.egress_total),
    )
    problems.extend(_ungrouped(request, key_prefix))
    networks, bad_networks = parse_cidrs(f"{key_prefix}exempt", request.exempt_cidrs)
    problems.extend(bad_networks)
    if problems:
        return tuple(problems)
    group = "" if request.group is None else named_group(request.group)
    return Limits(ingress, egress, request.mode, networks, *shares, group)


def _ungrouped(request: TargetRequest, key_prefix: str) -> list[Problem]:
    """A total is a group's, and a group is there for its totals."""
    key = f"{key_prefix}group"
    totals = {"ingress-total": request.ingress_total, "egress-total": request.egress_total}
    given = {name: text for name, text in totals.items() if text is not None}
    if request.group is None:
        fix = "give group too, the same for all that it is the total of"
        return [
            Problem(f"{key_prefix}{name}", text, "is nobody's total without a group", fix)
            for name, text in given.items()
        ]
    if _GROUP.fullmatch(request.group) is None:
        fix = "write letters, digits and .-_ between them, 63 at most"
        return [Problem(key, request.group, "is not a name for a group", fix)]
    if not given:
        fix = f"give {key_prefix}ingress-total or {key_prefix}egress-total too"
        return [Problem(key, request.group, "has no effect without a total", fix)]
    return []
