"""``podpace``: the command line. Exit codes: 0 done, 1 refused, 2 usage, 3 daemon not reachable."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from client import command, output
from client.api import Enforcer
from client.command import Output, Version
from client.errors import UsageError
from client.output import Format
from client.run import run as run_command
from client.top import show_live, show_once
from contract.api import TargetRequest
from contract.names import DEFAULT_SOCKET_PATH, SOCKET_ENVIRONMENT_VARIABLE, Mode
from contract.requests import parse_limits

app = typer.Typer(
    name="podpace",
    help="Limits the bandwidth of cgroups by pacing what they send and receive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Target = Annotated[
    str, typer.Argument(help="A cgroup path, pid:N or container:ID.", metavar="TARGET")
]
Ingress = Annotated[
    str | None, typer.Option(help="Limit of what it receives, in bits per second: 10M, 2.5G.")
]
Egress = Annotated[
    str | None, typer.Option(help="Limit of what it sends, in bits per second: 10M, 2.5G.")
]
IngressBurst = Annotated[str | None, typer.Option(help="Burst in bits; the default suits most.")]
EgressBurst = Annotated[str | None, typer.Option(help="Burst in bits; the default suits most.")]
Observe = Annotated[
    bool, typer.Option("--observe", help="Count what would be dropped, limit nothing.")
]
Exempt = Annotated[
    list[str] | None,
    typer.Option(
        help="A network that is not limited, v4 or v6; may be given again.", metavar="CIDR"
    ),
]
IngressRequest = Annotated[
    str | None, typer.Option(help="Guaranteed of what it receives, when something is short.")
]
EgressRequest = Annotated[
    str | None, typer.Option(help="Guaranteed of what it sends, when something is short.")
]
Group = Annotated[
    str | None, typer.Option(help="The name of a group that is bounded together.", metavar="NAME")
]
IngressTotal = Annotated[
    str | None, typer.Option(help="Limit of what all of the group receive together.")
]
EgressTotal = Annotated[
    str | None, typer.Option(help="Limit of what all of the group send together.")
]
# readable=False: typer would look first, and call a socket that only root may use a usage error.
Socket = Annotated[
    Path,
    typer.Option(help="The daemon's socket.", envvar=SOCKET_ENVIRONMENT_VARIABLE, readable=False),
]
DEFAULT_SOCKET = Path(DEFAULT_SOCKET_PATH)


def main() -> None:
    """Entry point of the console script."""
    command.run(app)


@app.callback()
def podpace(
    _version: Version = False,
) -> None:
    """Limits the bandwidth of cgroups by pacing what they send and receive."""


@app.command()
def attach(
    target: Target,
    *,
    ingress: Ingress = None,
    egress: Egress = None,
    ingress_burst: IngressBurst = None,
    egress_burst: EgressBurst = None,
    observe: Observe = False,
    exempt: Exempt = None,
    ingress_request: IngressRequest = None,
    egress_request: EgressRequest = None,
    group: Group = None,
    ingress_total: IngressTotal = None,
    egress_total: EgressTotal = None,
    output_format: Output = Format.TABLE,
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Limit TARGET, or change its limits live; a direction that is left out is not limited."""
    request = _checked(
        TargetRequest(
            ingress,
            egress,
            ingress_burst,
            egress_burst,
            Mode.OBSERVE if observe else Mode.ENFORCE,
            tuple(exempt or ()),
            group,
            ingress_total,
            egress_total,
            ingress_request,
            egress_request,
        )
    )
    with Enforcer(socket) as enforcer:
        status = enforcer.attach(_absolute(target), request)
    if output_format is Format.TABLE:
        output.print_attached(status)
    else:
        output.print_data(status, output_format)


@app.command()
def detach(target: Target, socket: Socket = DEFAULT_SOCKET) -> None:
    """Take the limits of TARGET off."""
    with Enforcer(socket) as enforcer:
        enforcer.detach(_absolute(target))
    print(f"{target}: not limited any more")


@app.command("list")
def list_targets(output_format: Output = Format.TABLE, socket: Socket = DEFAULT_SOCKET) -> None:
    """List every limited target."""
    with Enforcer(socket) as enforcer:
        targets = enforcer.list_targets()
    if output_format is Format.TABLE:
        output.print_list(targets)
    else:
        output.print_data(targets, output_format)


@app.command()
def show(
    target: Target, output_format: Output = Format.TABLE, socket: Socket = DEFAULT_SOCKET
) -> None:
    """Show the limits of TARGET, how they are enforced, and what was counted."""
    with Enforcer(socket) as enforcer:
        status = enforcer.show(_absolute(target))
    if output_format is Format.TABLE:
        output.print_show(status)
    else:
        output.print_data(status, output_format)


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="Print one table and exit.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two samples.")] = 1.0,
    output_format: Output = Format.TABLE,
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Show rates live until Ctrl-C; with --once, -o json or -o yaml one sample."""
    with Enforcer(socket) as enforcer:
        if once or output_format is not Format.TABLE:
            show_once(enforcer, interval, output_format)
        else:
            with contextlib.suppress(KeyboardInterrupt):
                show_live(enforcer, interval)


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(help="The command, after --.")],
    *,
    ingress: Ingress = None,
    egress: Egress = None,
    ingress_burst: IngressBurst = None,
    egress_burst: EgressBurst = None,
    observe: Observe = False,
    exempt: Exempt = None,
    ingress_request: IngressRequest = None,
    egress_request: EgressRequest = None,
    group: Group = None,
    ingress_total: IngressTotal = None,
    egress_total: EgressTotal = None,
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Run COMMAND in a limited cgroup of its own; exits with its exit code."""
    request = _checked(
        TargetRequest(
            ingress,
            egress,
            ingress_burst,
            egress_burst,
            Mode.OBSERVE if observe else Mode.ENFORCE,
            tuple(exempt or ()),
            group,
            ingress_total,
            egress_total,
            ingress_request,
            egress_request,
        )
    )
    with Enforcer(socket) as enforcer:
        code = run_command(enforcer, request, command)
    raise typer.Exit(code)


def _checked(request: TargetRequest) -> TargetRequest:
    """The request, checked before the daemon is asked. Raises ``UsageError``."""
    limits = parse_limits(request, key_prefix="--")
    if isinstance(limits, tuple):
        raise UsageError(*map(str, limits))
    if not limits.limits_anything:
        raise UsageError("no limit was given; give --ingress 10M, --egress 10M or both")
    return request


def _absolute(target: str) -> str:
    """A relative path that exists here is meant from here; any other is the daemon's business."""
    path = Path(target)
    return str(path.absolute()) if not path.is_absolute() and path.exists() else target


if __name__ == "__main__":
    main()
