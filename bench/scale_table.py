"""What enforcers cost an API server, as the table of ``docs/operator/scale.md``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What one number of enforcers did to the API server."""

    enforcers: int
    start_requests: float
    start_received: float
    start_sent: float
    idle_requests: float
    idle_sent: float
    """Bytes per enforcer and minute, API server to enforcer."""
    busy_requests: float
    busy_received: float
    busy_sent: float
    cpu_share: float
    """Of a core, by the API server, while limits change."""
    memory_bytes: int


def table(costs: list[Cost]) -> str:
    """Markdown."""
    head = [
        "enforcers",
        "start: requests",
        "start: kB to it",
        "idle: requests/min",
        "idle: kB/min to it",
        "changing: requests/min",
        "changing: kB/min from it",
        "changing: kB/min to it",
        "API server: cores",
        "API server: MB",
    ]
    rows = [
        [
            str(c.enforcers),
            f"{c.start_requests:.1f}",
            f"{c.start_sent / 1e3:.1f}",
            f"{c.idle_requests:.2f}",
            f"{c.idle_sent / 1e3:.2f}",
            f"{c.busy_requests:.2f}",
            f"{c.busy_received / 1e3:.2f}",
            f"{c.busy_sent / 1e3:.2f}",
            f"{c.cpu_share:.2f}",
            f"{c.memory_bytes / 1e6:.0f}",
        ]
        for c in costs
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
