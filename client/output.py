"""What is printed: tables for people, JSON and YAML for programs."""

import json
import sys
import unicodedata
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from contract.api import DirectionStatus, TargetList, TargetStatus
from contract.limits import Sharing
from contract.quantity import format_bits_per_second
from contract.wording import describe_bandwidth

if TYPE_CHECKING:
    from rich.text import Text

_PIPE_COLUMNS = 1000
_command = "podpace"


class Format(StrEnum):
    """``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def printable(text: str) -> str:
    """Control characters as escapes: what others wrote into a cluster commands no terminal.

    Those that turn the direction of writing, or cannot be seen, are such, too.
    """
    if text.isprintable():
        return text
    return "".join(c if c == " " or _visible(c) else _escaped(c) for c in text)


def _visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class _Plain(Console):
    """Text as it is: neither markup nor control characters mean anything."""

    def render_str(self, text: str, **options: Any) -> "Text":
        return super().render_str(printable(text), **options)


def console() -> Console:
    """Standard output; a pipe gets whole lines, however long."""
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return _Plain(highlight=False, markup=False, emoji=False, width=width)


def print_data(data: Any, output: Format) -> None:
    """A dataclass (or a list of them) as JSON or YAML."""
    plain = msgspec.to_builtins(data)
    if output is Format.JSON:
        print(json.dumps(plain, indent=2))
    else:
        import yaml

        print(yaml.safe_dump(plain, sort_keys=False), end="")


def print_attached(status: TargetStatus) -> None:
    """One line: what is in force now."""
    print(
        f"{status.target}: ingress {describe(status.ingress)}, egress {describe(status.egress)}"
        + (" (observed only)" if status.mode == "observe" else "")
    )


def print_list(targets: TargetList) -> None:
    """One row per target."""
    if not targets.targets:
        print("no target is limited; limit one with: podpace attach TARGET --ingress 10M")
        return
    table = make_table("TARGET", "INGRESS", "EGRESS", "MODE", "CGROUP")
    for status in targets.targets:
        table.add_row(
            status.target,
            describe(status.ingress),
            describe(status.egress),
            status.mode,
            status.cgroup_path,
        )
    console().print(table)


def print_show(status: TargetStatus) -> None:
    """Everything about one target."""
    table = make_table("", "INGRESS", "EGRESS")
    both = (status.ingress, status.egress)
    for title, value in _SHOWN:
        table.add_row(title, *("-" if side is None else value(side) for side in both))
    out = console()
    out.print(f"target            {status.target}", soft_wrap=True)
    out.print(f"cgroup            {status.cgroup_path} (id {status.cgroup_id})", soft_wrap=True)
    out.print(f"mode              {status.mode}")
    out.print(f"exempt            {', '.join(status.exempt_cidrs) or '-'}", soft_wrap=True)
    out.print(f"group             {status.group or '-'}", soft_wrap=True)
    out.print(f"earlier sockets   {status.earlier_sockets}", soft_wrap=True)
    out.print(table)


def describe(side: DirectionStatus | None) -> str:
    """``10 Mbit/s (paced)``, or that there is no limit."""
    if side is None:
        return "not limited"
    sharing = Sharing(side.request_bits_per_second, side.total_bits_per_second)
    said = describe_bandwidth(side.bits_per_second, sharing, "of its group")
    noted = f": {side.why}" if side.why and side.request_bits_per_second else ""
    return f"{said} ({side.enforcement}{noted})"


def optional_rate(bits_per_second: int | None) -> str:
    """``10 Mbit/s``, or a dash."""
    return "-" if bits_per_second is None else format_bits_per_second(bits_per_second)


def make_table(*titles: str, headers: bool = True) -> Table:
    """Plain columns with two spaces between them; numbers to the right is up to the caller."""
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=headers
    )
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def format_bytes(count: float) -> str:
    """``1.5 MB``; powers of ten, as the limits are."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return (
                f"{count / scale:.3g} {unit}"
                if count < 999.5 * scale
                else f"{count / scale:.0f} {unit}"
            )
    return f"{count:.0f} B"


def format_rate(bits_per_second: float) -> str:
    """``9.56 Mbit/s``: a measured rate, three digits."""
    for unit, scale in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits_per_second >= scale:
            return f"{bits_per_second / scale:.2f} {unit}"
    return f"{bits_per_second:.0f} bit/s"


def print_problems(lines: Iterable[str]) -> None:
    """To standard error, one line each, after the command's name."""
    for line in lines:
        print(f"{_command}: {printable(line)}", file=sys.stderr)


def name_command(name: str) -> None:
    """What problems are printed after."""
    global _command  # noqa: PLW0603 - one per process
    _command = name


_SHOWN: Any = (
    ("limit", lambda s: optional_rate(s.bits_per_second)),
    ("guaranteed", lambda s: optional_rate(s.request_bits_per_second or None)),
    ("total of its group", lambda s: optional_rate(s.total_bits_per_second)),
    ("may use now", lambda s: optional_rate(s.current_bits_per_second)),
    ("burst", lambda s: format_bytes(s.burst_bits / 8)),
    ("enforcement", lambda s: s.enforcement),
    ("why", lambda s: s.why or "-"),
    ("delay of bulk", lambda s: f"{s.delay_ms:.1f} ms"),
    ("share of one flow", lambda s: format_rate(s.share_bytes_per_sec * 8)),
    ("active flows", lambda s: str(s.active_flows)),
    ("passed", lambda s: f"{format_bytes(s.passed_bytes)}, {s.passed_packets} packets"),
    ("dropped", lambda s: f"{format_bytes(s.dropped_bytes)}, {s.dropped_packets} packets"),
    ("marked", lambda s: f"{s.marked_packets} packets"),
    ("at the limit", lambda s: f"{s.limited_seconds:.1f} s"),
)
