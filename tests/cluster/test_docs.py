"""What the pages for users and operators say to type, typed at a cluster with the webhook."""

from pathlib import Path

import pytest

from tests.cluster.install import RELEASE_NAMESPACE, Installation
from tests.docs.pages import PAGES, ROOT, Reader, has, name

CLUSTER = "run=cluster"
NEEDS_NO_INSTALLATION = {ROOT / "docs/operator/install.md"}
"""Followed in ``test_chart``."""
CASES = [p for p in PAGES if has(p, CLUSTER) and p not in NEEDS_NO_INSTALLATION]


@pytest.mark.parametrize("page", CASES, ids=name)
def test_what_a_page_says_to_run_in_a_cluster_runs(
    installation: Installation, page: Path, tmp_path: Path
) -> None:
    """Copy and paste, from the first block to the last."""
    environment = {"KUBECONFIG": str(installation.plane.kubeconfig("admin"))}

    try:
        assert Reader(tmp_path, environment, installation.plane.bin).follow(page, CLUSTER) > 0
    finally:
        # What selects namespaces is felt by the first pods of every new one.
        path = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/configmaps?labelSelector=podpace.io/policy"
        for policy in installation.admin.get(path)["items"]:
            installation.set_policy(RELEASE_NAMESPACE, None, policy["metadata"]["name"])
