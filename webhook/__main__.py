"""The ``podpace-webhook`` command: builds everything and runs it."""

import ssl
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer

from contract.arguments import as_kubectl
from kube.errors import ApiError, NoClusterError
from webhook.errors import WebhookError
from webhook.kube.__main__ import Kubeconfig, ReleaseNamespace, hooks, own_namespace
from webhook.loops import Loops
from webhook.metrics import Metrics
from webhook.policies import DEFAULT_RELEASE_NAMESPACE, PolicyStore
from webhook.reach import LINUX, Placement
from webhook.settings import Settings
from webhook.tls import LiveContext

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.add_typer(hooks)
log = structlog.stdlib.get_logger()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"podpace-webhook {version('podpace')}")
        raise typer.Exit


@cli.callback()
def options(
    *,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    """Limits of pods at admission: serve them, or ask without a cluster."""


@cli.command()
def review(
    *,
    files: Annotated[
        list[str],
        typer.Option("-f", "--filename", help="Pods, workloads and policies; - is stdin. Repeat."),
    ],
    more_files: Annotated[
        list[str] | None, typer.Argument(help="More of them, as -f *.yaml gives.")
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="For objects that name none.")
    ] = "default",
    release_namespace: Annotated[
        str, typer.Option(help="Its policy is the cluster's.")
    ] = DEFAULT_RELEASE_NAMESPACE,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are denials.")] = False,
    exempt_namespace: Annotated[
        list[str] | None, typer.Option(help="As the chart's webhook.exemptNamespaces. Repeat.")
    ] = None,
) -> None:
    """What the webhook would answer: exit code 0 admitted, 1 denied, 2 unusable input."""
    from webhook.review import Options
    from webhook.review import main as review_main

    if output not in ("text", "json"):
        message = f"{output!r} is not a format; write text or json"
        raise typer.BadParameter(message, param_hint="--output")
    exempt = tuple(exempt_namespace or ())
    options = Options(namespace, release_namespace, output, strict, exempt)
    raise typer.Exit(review_main([*files, *(more_files or ())], options))


@cli.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="Admission over TLS.")] = 8443,
    health_port: Annotated[int, typer.Option(help="Health and metrics, plain.")] = 8080,
    stats_port: Annotated[
        int, typer.Option(help="Counters for users, over TLS, for the API server; 0: none.")
    ] = 0,
    release_namespace: ReleaseNamespace = None,
    service: Annotated[
        str, typer.Option(help="Of our Service; Secret and Lease begin with it.")
    ] = "podpace-webhook",
    cluster_domain: Annotated[str, typer.Option()] = "cluster.local",
    configuration: Annotated[
        str, typer.Option(help="Name of both webhook configurations.")
    ] = "podpace",
    extra_host: Annotated[
        list[str] | None, typer.Option(help="More names for the leaf. Repeat.")
    ] = None,
    kubeconfig: Kubeconfig = None,
    policy_dir: Annotated[
        Path | None, typer.Option(help="Serve without a cluster, with policies from here.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Instead of an own authority.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    tls_minimum: Annotated[str, typer.Option(help="1.2 or 1.3.")] = "1.3",
    drain_seconds: Annotated[float, typer.Option(help="Serve on after SIGTERM.")] = 15.0,
    audit_seconds: Annotated[
        float, typer.Option(help="Until running pods follow a policy; 0 is never.")
    ] = 60.0,
    exempt_namespace: Annotated[
        list[str] | None,
        typer.Option(help="The audit leaves it alone, as the webhook configurations do. Repeat."),
    ] = None,
    enforcer_nodes: Annotated[
        str, typer.Option(help="nodeSelector and affinity of the enforcers, as JSON.")
    ] = "",
    ca_overlap_seconds: Annotated[
        float, typer.Option(help="A new authority is trusted this long before it signs.")
    ] = 600.0,
    leaf_days: Annotated[float, typer.Option(help="Life of the leaf.")] = 7.0,
    certificate_poll_seconds: Annotated[
        float, typer.Option(help="Between two looks at authority, caBundle and leaf.")
    ] = 10.0,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve admission until SIGTERM."""
    from webhook.log import configure

    minimum = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}.get(tls_minimum)
    if minimum is None:
        raise typer.BadParameter("write 1.2 or 1.3", param_hint="--tls-minimum")
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("give both or neither", param_hint="--tls-cert, --tls-key")
    if policy_dir is not None and tls_cert is None:
        raise typer.BadParameter(
            "--policy-dir needs --tls-cert and --tls-key; `python -m certs DIR` makes a pair",
            param_hint="--policy-dir",
        )
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter("write debug, info, warning or error", param_hint="--log-level")
    configure(log_level)
    settings = Settings(
        host=host,
        port=port,
        health_port=health_port,
        stats_port=stats_port,
        release_namespace=release_namespace or own_namespace(),
        service=service,
        cluster_domain=cluster_domain,
        configuration=configuration,
        extra_hosts=tuple(extra_host or ()),
        kubeconfig=kubeconfig,
        policy_dir=policy_dir,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_minimum=minimum,
        drain_seconds=drain_seconds,
        audit_seconds=audit_seconds,
        exempt_namespaces=tuple(exempt_namespace or ()),
        enforcer_nodes=_placement(enforcer_nodes),
        ca_overlap_seconds=ca_overlap_seconds,
        leaf_days=leaf_days,
        certificate_poll_seconds=certificate_poll_seconds,
    )
    _serve(settings)


def _placement(text: str) -> Placement:
    if not text:
        return LINUX
    try:
        return msgspec.json.decode(text, type=Placement)
    except msgspec.MsgspecError as e:
        raise typer.BadParameter(str(e), param_hint="--enforcer-nodes") from e


def _serve(settings: Settings) -> None:
    """Builds the real adapters; nothing else does."""
    from webhook.admission import make_mutate, make_validate
    from webhook.app import create_admission_app, create_health_app
    from webhook.large import LargeReviews
    from webhook.lifecycle import Lifecycle
    from webhook.serve import run
    from webhook.stats.starting import start as start_stats
    from webhook.workloads import make_warn

    metrics = Metrics()
    store = PolicyStore(settings.release_namespace, without_cluster=settings.policy_dir is not None)
    live = LiveContext(settings.tls_minimum, metrics.certificate_expiry.set)
    lifecycle = Lifecycle(
        {"policies not synced": lambda: store.synced, "no certificate": lambda: live.loaded}
    )
    loops = Loops(metrics)
    finish = _start_loops(settings, store, live, metrics, loops)
    handlers = {
        "mutate": make_mutate(store, metrics, settings.enforcer_nodes),
        "validate": make_validate(store, settings.release_namespace, metrics),
        "workloads": make_warn(store, metrics, settings.enforcer_nodes),
    }
    large = LargeReviews()
    try:
        large.start()
        run(
            create_admission_app(handlers, lifecycle, metrics, large),
            create_health_app(lifecycle, metrics, loops),
            live.context,
            lifecycle=lifecycle,
            loops=loops,
            settings=settings,
            stats=start_stats(settings, live, loops),
        )
    finally:
        loops.stop.set()
        large.stop()
        finish()


def _start_loops(
    settings: Settings,
    store: PolicyStore,
    live: LiveContext,
    metrics: Metrics,
    loops: Loops,
) -> Callable[[], None]:
    """Starts what runs beside the servers; returns what to do after they ended."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        from webhook.tls import CertificateFiles

        files = CertificateFiles(live, settings.tls_cert, settings.tls_key)
        # Unusable files should end the start, not be retried in silence.
        files.step()
        loops.add("certificate files").start(files.step)
    if settings.policy_dir is not None:
        from webhook.folder import PolicyFolder

        folder = PolicyFolder(settings.policy_dir, store, "default")
        folder.step()
        loops.add("policy folder").start(folder.step)
        return lambda: None
    return _start_kube_loops(settings, store, live, metrics, loops)


def _start_kube_loops(
    settings: Settings,
    store: PolicyStore,
    live: LiveContext,
    metrics: Metrics,
    loops: Loops,
) -> Callable[[], None]:
    from kube.api import KubeApi
    from kube.credentials import load
    from webhook.kube import policies
    from webhook.kube.auditing import start_audit
    from webhook.kube.authority import SharedAuthority
    from webhook.kube.leaf import SelfManagedLeaf, service_hosts

    api = KubeApi(lambda: load(settings.kubeconfig))
    namespace = settings.release_namespace
    policies.start_watches(api, store, metrics, loops, namespace)
    if settings.tls_cert is None:
        hosts = service_hosts(settings.service, namespace, settings.cluster_domain)
        leaf = SelfManagedLeaf(
            api,
            SharedAuthority(
                api,
                namespace,
                timedelta(seconds=settings.ca_overlap_seconds),
                secret=f"{settings.service}-ca",
            ),
            live,
            (*hosts, *settings.extra_hosts),
            settings.configuration,
            timedelta(days=settings.leaf_days),
            settings.certificate_poll_seconds,
        )
        loops.add("certificates").start(leaf.step)
    if settings.audit_seconds <= 0:
        return lambda: None
    return start_audit(api, store, metrics, loops, settings)


def main() -> None:
    """Run, and print what is wrong in one line."""
    try:
        cli(args=as_kubectl(sys.argv[1:]))
    except NoClusterError as e:
        hint = "give --kubeconfig, or --policy-dir to serve without one"
        print(f"podpace-webhook: {e}; {hint}", file=sys.stderr)
        sys.exit(1)
    except (WebhookError, ApiError) as e:
        print(f"podpace-webhook: {e}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
