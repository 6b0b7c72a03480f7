"""``python -m bench.webhook``: the webhook beside the Go peer, and behind a real API server.

Writes RESULTS.md beside this file. ``--seconds`` is how long each cell runs.
"""

import argparse
import contextlib
import datetime
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.webhook import apiserver, hostile, servers
from bench.webhook.bodies import review

RESULTS: Final = Path(__file__).parent / "RESULTS.md"
SIZES: Final = {"6 kB": 6_000, "60 kB": 60_000}
Row = tuple[str, str, str, dict[str, Any]]
"""Webhook, size of the pod, rate, and what was measured."""
RATES: Final = {"as fast as can be": 0.0, "500/s": 500.0}


def main() -> None:
    """Runs every cell, ours and the peer's in turn, so that both meet the same machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--before", type=Path, help="a checkout of another version, to compare")
    parser.add_argument("--no-apiserver", action="store_true", help="leave out the last table")
    options = parser.parse_args()
    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        servers.build_peer(folder)
        servers.write_certificates(folder)
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(servers.podpace(folder))
            peer = stack.enter_context(servers.go(folder))
            subjects = [ours, peer]
            if options.before is not None:
                subjects.append(stack.enter_context(servers.podpace(folder, options.before)))
            for size, size_bytes in SIZES.items():
                body = folder / "body.json"
                body.write_bytes(review(size_bytes))
                for rate, per_second in RATES.items():
                    for subject in subjects:
                        print(f"{subject.name}, {size}, {rate}", file=sys.stderr)
                        found = servers.load(folder, subject, body, per_second, options.seconds)
                        rows.append((subject.name, size, rate, found))
            crowded = hostile.measure(folder, ours, options.seconds)
    behind = None if options.no_apiserver else apiserver.measure(100, 3 * options.seconds)
    text = report(load, rows, behind, crowded)
    RESULTS.write_text(text)
    print(text)


def report(
    load: float,
    rows: list[Row],
    behind: dict[str, Any] | None,
    crowded: list[tuple[str, dict[str, Any]]],
) -> str:
    """Markdown; ``load`` is what others asked of the machine before."""
    lines = [
        "# The webhook beside a minimal Go webhook",
        "",
        f"`python -m bench.webhook`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, "
        f"{os.cpu_count()} cores shared by server and load generator, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"{_go_version()}, commit {_commit()}. The machine had a load average of {load:.1f} from "
        "other work before it began. "
        "TLS 1.3, 16 kept-alive connections, one process each; both write one log line per "
        "review. Latency at a rate counts from when a request was due. The Go webhook writes the "
        "same labels without policy, checks, warnings or metrics.",
        "",
        "| webhook | pod | rate | per s | errors | p50 ms | p99 ms | max ms | cores | RSS MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, size, rate, f in rows:
        lines.append(
            f"| {name} | {size} | {rate} | {f['per_second']:,.0f} | {f['errors']} "
            f"| {f['p50_ms']:.2f} | {f['p99_ms']:.2f} | {f['max_ms']:.1f} "
            f"| {f['cpu_cores']:.2f} | {f['rss_mib']:.0f} |"
        )
    lines += [
        "",
        "## Beside very large and very crowded reviews",
        "",
        f"{hostile.HOSTILE_PER_SECOND} of a kind a second on a connection of their own, beside "
        f"{hostile.ORDINARY_PER_SECOND} ordinary reviews a second (6 kB). A wrong answer is "
        "none, or an admission where a denial is due. Memory is that of both our processes.",
        "",
        *hostile.table("podpace", crowded),
        "## Aims",
        "",
        *_targets(rows, behind, crowded),
    ]
    return "\n".join(lines) + "\n"


def _targets(
    rows: list[Row], behind: dict[str, Any] | None, crowded: list[tuple[str, dict[str, Any]]]
) -> list[str]:
    by = {(name, size, rate): found for name, size, rate, found in rows}
    fast, steady = RATES
    ours, peer = by["podpace", "6 kB", fast], by["go", "6 kB", fast]
    rate = ours["per_second"]
    found = [
        (
            "≥ 2,500 reviews/s with 6 kB pods",
            f"{rate:,.0f}/s",
            rate >= 2500,
        ),
        (
            "at least a third of the Go webhook's rate",
            f"{rate / peer['per_second']:.2f} of it",
            rate * 3 >= peer["per_second"],
        ),
        (
            "p99 ≤ 10 ms at 500/s",
            f"{by['podpace', '6 kB', steady]['p99_ms']:.2f} ms",
            by["podpace", "6 kB", steady]["p99_ms"] <= 10,
        ),
    ]
    slowest = max(f["hostile"]["max_ms"] for _, f in crowded if f["megabytes"] < 25)
    p99 = max(f["ordinary"]["p99_ms"] for _, f in crowded)
    lost = sum(f["ordinary"]["errors"] + f["hostile"]["errors"] for _, f in crowded)
    grown = crowded[-1][1]["grown_mib"]
    found += [
        ("large and crowded reviews answered within 150 ms", f"{slowest:.0f} ms", slowest <= 150),
        ("meanwhile p99 ≤ 10 ms at 500/s", f"{p99:.2f} ms", p99 <= 10),
        ("none of either fails, none is answered wrongly", str(lost), lost == 0),
        ("memory afterwards ≤ 15 MiB more", f"{grown:+.1f} MiB", grown <= 15),
    ]
    if behind is not None:
        found.append(
            (
                "added p99 ≤ 25 ms at 100 pod creations/s, by the API server's metric",
                f"{behind['p99_ms']:.1f} ms (p50 {behind['p50_ms']:.1f} ms, "
                f"{behind['pods']:,} pods at {behind['per_second']:.0f}/s, "
                f"{behind['failures']} failed)",
                behind["p99_ms"] <= 25 and behind["failures"] == 0,
            )
        )
    rows_found = [f"| {what} | {value} | {'yes' if met else 'no'} |" for what, value, met in found]
    return ["| aim | measured | met |", "|---|---|---|", *rows_found]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _go_version() -> str:
    done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True)
    return done.stdout.strip().replace("go", "Go ")


if __name__ == "__main__":
    main()
