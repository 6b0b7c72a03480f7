"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

PodName = Annotated[str, typer.Argument(help="A pod's name.", metavar="POD")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Default: the context's namespace.")
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")]
Selector = Annotated[
    str, typer.Option("--selector", "-l", help="Of pods, such as app=web,tier!=test.")
]
Context = Annotated[str | None, typer.Option(help="A context of the kubeconfig file.")]
# readable=False: a file that cannot be read is our message, not typer's.
Kubeconfig = Annotated[
    Path | None, typer.Option(help="Default: KUBECONFIG, then ~/.kube/config.", readable=False)
]
ReleaseNamespace = Annotated[
    str,
    typer.Option(help="Where Podpace is installed.", envvar="PODPACE_RELEASE_NAMESPACE"),
]
DEFAULT_RELEASE_NAMESPACE = "podpace-system"
