"""``kubectl podpace``. Exit codes: 0 done, 1 refused, 2 usage, 3 API server not reachable."""

import contextlib
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from client import command
from client.command import Output, Version
from client.errors import ClientError, UnreachableError, UsageError
from client.kube import output
from client.kube.api import Cluster, NotFoundError, connect, use
from client.kube.counters import Counters
from client.kube.finding import limited_pods, one_pod, wanted_pods
from client.kube.flags import HELP, take
from client.kube.live import next_rows, show_live
from client.kube.options import (
    DEFAULT_RELEASE_NAMESPACE,
    AllNamespaces,
    Context,
    Kubeconfig,
    Namespace,
    PodName,
    ReleaseNamespace,
    Selector,
)
from client.kube.pods import PodLimits, decode_pod, read_pod, sort_pods
from client.kube.rates import Enforcers, Sample
from client.kube.watching import Changed
from client.output import Format, console, name_command, print_data, print_problems
from client.top import make_view

if TYPE_CHECKING:
    from client.kube.refusals import Refusal

app = typer.Typer(
    name="kubectl-podpace",
    help="Shows the bandwidth limits of pods: what was asked, what is in force, and live rates.",
    epilog=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point of the console script."""
    name_command("kubectl podpace")
    command.run(app, _connection)


def _connection(arguments: list[str]) -> list[str]:
    """Takes it out of the arguments."""
    flags, left = take(arguments)
    use(flags)
    return left


@app.callback()
def kubectl_podpace(
    _version: Version = False,
) -> None:
    """Shows the bandwidth limits of pods."""


@app.command("list")
def list_pods(
    *,
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    output_format: Output = Format.TABLE,
    selector: Selector = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Then each change, until Ctrl-C.")
    ] = False,
    headers: Annotated[bool, typer.Option(" /--no-headers", help="Rows only.")] = True,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List limited pods: limits, where they came from, whether they are in force."""
    cluster = connect(kubeconfig, context)
    wanted = wanted_pods(cluster, namespace, selector, everywhere=all_namespaces)
    pods = limited_pods(cluster, wanted)
    if output_format is not Format.TABLE:
        print_data(pods, output_format)
    elif pods or watch:
        output.print_pods(pods, all_namespaces=all_namespaces, headers=headers)
    else:
        print("no pod is limited here; limit one with the annotations in docs/user/admission.md")
    if watch:

        def show_one(pod: PodLimits) -> None:
            if output_format is Format.TABLE:
                output.print_pods((pod,), all_namespaces=all_namespaces, headers=False)
            else:
                print_data(pod, output_format)
            sys.stdout.flush()

        with contextlib.suppress(KeyboardInterrupt):
            cluster.follow(wanted, decode_pod, Changed(pods, show_one))


@app.command()
def show(
    pod: PodName,
    *,
    namespace: Namespace = None,
    output_format: Output = Format.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    release_namespace: ReleaseNamespace = DEFAULT_RELEASE_NAMESPACE,
) -> None:
    """Show what POD asks for, what is in force and how, and its counters."""
    cluster = connect(kubeconfig, context)
    found = one_pod(cluster, namespace, pod)
    if output_format is not Format.TABLE:
        print_data(found, output_format)
        return
    # Counters are extra here: without the right to read them the rest is worth printing.
    sample: Sample | None = None
    problems: tuple[str, ...] = ()
    if found.limited and found.node:
        try:
            nodes = frozenset({found.node})
            sample = Counters(cluster, release_namespace, found.namespace, nodes).sample()
            problems = sample.problems
        except ClientError as error:
            problems = error.lines
    output.print_pod(found, sample)
    print_problems(f"no counters: {problem}" for problem in problems)


@app.command()
def explain(
    pod: Annotated[str, typer.Argument(help="A pod, or a workload without one.", metavar="POD")],
    *,
    namespace: Namespace = None,
    output_format: Output = Format.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    release_namespace: ReleaseNamespace = DEFAULT_RELEASE_NAMESPACE,
) -> None:
    """Explain where the limits of POD came from: its annotations and the policies.

    Of a workload, such as a Deployment, say why its pods were refused.
    """
    from client.kube.explain import explain as explain_pod
    from client.kube.policies import read_policies

    cluster = connect(kubeconfig, context)
    try:
        found = one_pod(cluster, namespace, pod)
    except NotFoundError as error:
        _explain_refused(cluster, namespace or cluster.namespace, pod, output_format, error)
        return
    policies = read_policies(cluster, found.namespace, release_namespace)
    explanation = explain_pod(found, policies)
    if output_format is Format.TABLE:
        output.print_explanation(explanation)
        print_problems(explanation.problems)
    else:
        print_data(explanation, output_format)


@app.command("set")
def set_limits(
    pod: Annotated[list[str] | None, typer.Argument(help="Pods; or -l.", metavar="POD")] = None,
    *,
    ingress: Annotated[str | None, typer.Option(help="Such as 100M; none takes it off.")] = None,
    egress: Annotated[str | None, typer.Option(help="The same of what is sent.")] = None,
    ingress_burst: Annotated[str | None, typer.Option(help="In bits.")] = None,
    egress_burst: Annotated[str | None, typer.Option(help="In bits.")] = None,
    ingress_request: Annotated[str | None, typer.Option(help="What is guaranteed.")] = None,
    egress_request: Annotated[str | None, typer.Option(help="What is guaranteed.")] = None,
    selector: Selector = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, change nothing.")] = False,
    namespace: Namespace = None,
    output_format: Output = Format.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    release_namespace: ReleaseNamespace = DEFAULT_RELEASE_NAMESPACE,
) -> None:
    """Change limits of pods that run, not of what they are made from; all of them or none."""
    from client.kube.explain import explain as explain_pod
    from client.kube.policies import read_policies
    from client.kube.setting import Wish, make_annotations, set_all, try_all

    if bool(pod) is bool(selector):
        raise UsageError("name pods, or give -l; not both")
    wanted = make_annotations(
        Wish(ingress, ingress_burst, ingress_request), Wish(egress, egress_burst, egress_request)
    )
    cluster = connect(kubeconfig, context)
    scope = namespace or cluster.namespace
    if pod:
        pods = tuple(one_pod(cluster, scope, name) for name in pod)
    else:
        found = cluster.list(f"/api/v1/namespaces/{scope}/pods", {"labelSelector": selector})
        pods = sort_pods(map(read_pod, found))
    if not pods:
        raise NotFoundError(f"no pod of {scope} has the labels {selector}")
    changed = try_all(cluster, pods, wanted)
    if not dry_run:
        changed = set_all(cluster, pods, wanted)
    if output_format is not Format.TABLE:
        print_data(changed, output_format)
        return
    policies = read_policies(cluster, scope, release_namespace)
    for one in changed:
        output.print_set(explain_pod(one, policies), dry_run=dry_run)
    print_problems(policies.problems)


@app.command()
def top(
    *,
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    once: Annotated[bool, typer.Option("--once", help="Print one table and exit.")] = False,
    interval: Annotated[float, typer.Option(min=1.0, help="Seconds between two samples.")] = 2.0,
    output_format: Output = Format.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    release_namespace: ReleaseNamespace = DEFAULT_RELEASE_NAMESPACE,
) -> None:
    """Show rates live until Ctrl-C; with --once, -o json or -o yaml one sample."""
    cluster = connect(kubeconfig, context)
    wanted = wanted_pods(cluster, namespace, selector, everywhere=all_namespaces)
    counters = partial(Counters, cluster, release_namespace, wanted.namespace)
    if once or output_format is not Format.TABLE:
        _, rows = next_rows(lambda: limited_pods(cluster, wanted), counters, interval)
        if output_format is Format.TABLE:
            console().print(make_view(rows))
        else:
            print_data(rows, output_format)
        return
    with contextlib.suppress(KeyboardInterrupt):
        show_live(lambda: limited_pods(cluster, wanted), counters, interval)


@app.command()
def nodes(
    node: Annotated[list[str] | None, typer.Argument(help="Nodes; without, all.")] = None,
    *,
    interval: Annotated[float, typer.Option(min=1.0, help="Seconds between two samples.")] = 2.0,
    output_format: Output = Format.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    release_namespace: ReleaseNamespace = DEFAULT_RELEASE_NAMESPACE,
) -> None:
    """Show what is shared on nodes: totals, what is guaranteed and used, what is short, by whom."""
    from client.kube.nodes import make_groups, read_page

    cluster = connect(kubeconfig, context)
    enforcers = Enforcers(cluster, release_namespace, frozenset(node) if node else None)
    before, _ = enforcers.pages(read_page)
    started = time.monotonic()
    time.sleep(interval)
    after, problems = enforcers.pages(read_page)
    groups = make_groups(before, after, time.monotonic() - started)
    print_problems(problems)
    if not after:
        raise UnreachableError(
            f"no enforcer could be asked in namespace {release_namespace}; where it is elsewhere, "
            "give --release-namespace"
        )
    if output_format is not Format.TABLE:
        print_data(groups, output_format)
    elif groups:
        output.print_groups(groups, time.time())
    else:
        print("nothing is shared here; docs/user/sharing.md says what can be")


def _explain_refused(
    cluster: Cluster, namespace: str, name: str, output_format: Format, error: NotFoundError
) -> None:
    """What its owner was told of a pod that is not there; raises ``error`` if nobody was."""
    from client.kube.refusals import refused_pods

    refusals: tuple[Refusal, ...] = ()
    with contextlib.suppress(ClientError):  # no right to Events: the pod is missing all the same
        refusals = refused_pods(cluster, namespace, name)
    if not refusals:
        raise error
    if output_format is Format.TABLE:
        output.print_refusals(refusals)
    else:
        print_data(refusals, output_format)


if __name__ == "__main__":
    main()
