"""Packets by hand, from the IP header on, as the cgroup hooks see them."""

import ipaddress
import struct
from typing import Final

TCP: Final = 6
UDP: Final = 17
GRE: Final = 47
HOP_BY_HOP: Final = 0
ROUTING: Final = 43
DESTINATION: Final = 60
JUMBO: Final = bytes([TCP, 0, 0xC2, 4]) + (100_000).to_bytes(4, "big")
"""As Linux puts it before TCP in packets above 64 KiB."""
ACK: Final = 0x10
SYN: Final = 0x02
ETHERNET_BYTES: Final = 14
ECT0: Final = 2
ECT1: Final = 1
CE: Final = 3


def tcp(data_bytes: int = 0, *, flags: int = ACK, options: bytes = b"") -> bytes:
    """A TCP segment; options in whole words."""
    words = 5 + len(options) // 4
    header = struct.pack("!HHIIBBHHH", 40000, 5201, 1, 1, words << 4, flags, 512, 0, 0)
    return header + options + bytes(data_bytes)


def extension(following: int, header_bytes: int = 8) -> bytes:
    """An IPv6 extension header full of padding."""
    padding_bytes = header_bytes - 4
    return bytes([following, header_bytes // 8 - 1, 1, padding_bytes]) + bytes(padding_bytes)


def udp(data_bytes: int = 0) -> bytes:
    """A UDP datagram."""
    return struct.pack("!HHHH", 40000, 5201, 8 + data_bytes, 0) + bytes(data_bytes)


def ipv4(
    payload: bytes,
    protocol: int,
    *,
    source: str = "192.0.2.1",
    destination: str = "198.51.100.2",
    options: bytes = b"",
    ecn: int = 0,
    fragment_offset_bytes: int = 0,
) -> bytes:
    """An IPv4 packet with a right checksum; options in whole words."""
    words = 5 + len(options) // 4
    head = [0x40 | words, ecn, 4 * words + len(payload), 1, fragment_offset_bytes // 8, 64]
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed

    def header(check: int) -> bytes:
        return struct.pack("!BBHHHBBH", *head, protocol, check) + addresses + options

    return header(checksum(header(0))) + payload


def ipv6(
    payload: bytes,
    protocol: int,
    *,
    source: str = "2001:db8::1",
    destination: str = "2001:db8:1::2",
    ecn: int = 0,
) -> bytes:
    """An IPv6 packet."""
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    return (
        struct.pack("!IHBB", 6 << 28 | ecn << 20, len(payload), protocol, 64) + addresses + payload
    )


def checksum(header: bytes) -> int:
    """The Internet checksum; 0 over a header that carries a right one."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ecn_of(packet: bytes) -> int:
    """The two ECN bits."""
    if packet[0] >> 4 == 4:
        return packet[1] & 3
    return packet[1] >> 4 & 3
