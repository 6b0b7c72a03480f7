"""What is done when this replica ends: the API goes where the installation goes."""

import structlog

from kube.errors import ApiError
from kube.ports import Api
from webhook.kube.authority import API_SERVICE

log = structlog.stdlib.get_logger()


def leave(api: Api, release_namespace: str) -> None:
    """Deletes the APIService when our namespace is being deleted.

    While an APIService has nobody behind it no namespace of the cluster can end, ours neither: the
    API server has to know all kinds of objects before it says that a namespace is empty.
    """
    try:
        found = api.get(f"/api/v1/namespaces/{release_namespace}")
        if not found["metadata"].get("deletionTimestamp"):
            return
        api.delete(API_SERVICE)
    except ApiError as error:
        log.warning("APIService not looked after", reason=str(error)[:300])
    else:
        log.info("APIService deleted", reason="its namespace is being deleted")
