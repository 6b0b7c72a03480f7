"""Exempt networks as people write them, made canonical: one spelling, one family each."""

import ipaddress
from collections.abc import Iterable
from typing import Final

from contract.problems import Problem

MAX_NETWORKS: Final = 64
"""In a list. Kernels keep each list that is in use: 4,096 targets' lists fit there."""
MAX_TEXTS: Final = 4 * MAX_NETWORKS
"""With what is written twice, or cannot be read; no more are looked at."""
_LONGEST: Final = 64
"""No network is as long; what is longer is not one, and is not looked at whole."""
_MAPPED_BITS: Final = 96
"""Of ``::ffff:0:0/96``, IPv4 addresses as IPv6 sockets show them."""


def parse_cidr(key: str, text: str) -> str | Problem:
    """The network in its canonical spelling (``10.0.0.0/8``), or what is wrong with ``text``.

    An IPv4-mapped one is the IPv4 network: packets to it carry IPv4 headers.
    """
    try:
        interface = ipaddress.ip_interface(text if len(text) <= _LONGEST else "")
    except ValueError:
        return Problem(
            key, text, "is not a network", "write one such as 10.0.0.0/8 or 2001:db8::/32"
        )
    if "%" in text:
        return Problem(key, text, "names an interface", "leave out the % and what follows")
    prefix_bits = interface.network.prefixlen
    mapped = interface.ip.ipv4_mapped if isinstance(interface, ipaddress.IPv6Interface) else None
    if mapped is not None:
        if prefix_bits < _MAPPED_BITS:
            meant_bits = min(prefix_bits, mapped.max_prefixlen)
            meant = ipaddress.ip_network(f"{mapped}/{meant_bits}", strict=False)
            reason = f"is an IPv4 address with an IPv6 prefix, /{prefix_bits}"
            return Problem(key, text, reason, f"write {meant}, or the IPv4 network that you mean")
        interface = ipaddress.ip_interface(f"{mapped}/{prefix_bits - _MAPPED_BITS}")
    if interface.ip != interface.network.network_address:
        return Problem(
            key,
            text,
            f"has bits set behind its /{prefix_bits}",
            f"write {interface.network}, or {interface.ip} for that one address",
        )
    return str(interface.network)


def parse_cidrs(key: str, texts: Iterable[str]) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """A list, canonical and sorted, each network once, and all that is wrong with it.

    What cannot be read is not exempt. Of a list that is too long nothing is: no part of it is what
    its author meant.
    """
    networks: set[str] = set()
    problems: list[Problem] = []
    for number, text in enumerate(texts, start=1):
        network = parse_cidr(key, text)
        if isinstance(network, Problem):
            problems.append(network)
        else:
            networks.add(network)
        if len(networks) > MAX_NETWORKS or number == MAX_TEXTS:
            too_many = f"is one more than the {MAX_NETWORKS} networks that a list may hold"
            fix = "write fewer, larger networks; until then none of them is exempt"
            return (), (*problems[:MAX_NETWORKS], Problem(key, text, too_many, fix))
    return tuple(sorted(networks)), tuple(problems)
