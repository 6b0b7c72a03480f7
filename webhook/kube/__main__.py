"""What the chart's hooks run in a pod beside the webhook: ``uninstall`` and ``selftest``."""

from typing import TYPE_CHECKING, Annotated

import typer

from webhook.policies import DEFAULT_RELEASE_NAMESPACE

if TYPE_CHECKING:
    from kube.api import KubeApi

hooks = typer.Typer()
ReleaseNamespace = Annotated[str | None, typer.Option(help="Default: the namespace of this pod.")]
Name = Annotated[str, typer.Option(help="What all names of the installation begin with.")]
Kubeconfig = Annotated[str | None, typer.Option(help="Default: our service account.")]


@hooks.command()
def uninstall(
    *,
    release_namespace: ReleaseNamespace = None,
    name: Name = "podpace",
    timeout_seconds: Annotated[float, typer.Option(help="Give up after this.")] = 270.0,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Stop admission and clean every node: what `helm uninstall` does first."""
    from webhook.kube.uninstall import Uninstall

    namespace = release_namespace or own_namespace()
    done = Uninstall(_api(kubeconfig), namespace, name, timeout_seconds, _say).run()
    raise typer.Exit(0 if done else 1)


@hooks.command()
def selftest(
    *,
    image: Annotated[str, typer.Option(help="Of the pod that is started; needs `sleep`.")],
    namespace: Annotated[str, typer.Option(help="Where it is started.")] = "default",
    image_pull_policy: Annotated[str, typer.Option()] = "IfNotPresent",
    image_pull_secret: Annotated[list[str] | None, typer.Option(help="Repeat.")] = None,
    release_namespace: ReleaseNamespace = None,
    name: Name = "podpace",
    timeout_seconds: Annotated[float, typer.Option(help="For a pod to be limited.")] = 120.0,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Is a pod limited from admission to its node? What `helm test` runs."""
    from webhook.kube.selftest import ProbeImage, SelfTest

    passed = SelfTest(
        _api(kubeconfig),
        namespace,
        release_namespace or own_namespace(),
        ProbeImage(image, image_pull_policy, tuple(image_pull_secret or ())),
        timeout_seconds,
        _say,
        name=name,
    ).run()
    raise typer.Exit(0 if passed else 1)


def own_namespace() -> str:
    """Where the pod runs that we are in; outside a cluster where it is usually installed."""
    from kube.credentials import own_namespace as namespace_of_pod

    return namespace_of_pod() or DEFAULT_RELEASE_NAMESPACE


def _api(kubeconfig: str | None) -> "KubeApi":
    # Imported only where it is wanted: `review` needs no cluster.
    from kube.api import KubeApi
    from kube.credentials import load

    return KubeApi(lambda: load(kubeconfig))


def _say(line: str) -> None:
    print(line, flush=True)
