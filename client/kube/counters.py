"""A sample of pods' counters, from where the user may read them.

The aggregated API is for everybody who may view a namespace. Whoever may use ``pods/proxy`` in the
release namespace reads the enforcers themselves: all namespaces, and releases without that API.
"""

import time
from dataclasses import dataclass, replace

import msgspec

from client.errors import ClientError, UnreachableError
from client.kube.api import NotFoundError
from client.kube.rates import Enforcers, Reads, Sample
from contract.names import DIRECTIONS
from contract.stats import GROUP, PodStatsList, path_of


@dataclass(frozen=True)
class Counters:
    """Of the pods of one namespace (None: of all), which are on ``nodes``."""

    cluster: Reads
    release_namespace: str
    namespace: str | None
    nodes: frozenset[str]

    def sample(self) -> Sample:
        """As of now. Raises ``ClientError``: nothing of it can be read."""
        if self.namespace is None:
            return self._of_enforcers()
        try:
            return self._of_api(self.namespace)
        except UnreachableError:
            raise
        except ClientError as refused:
            try:
                found = self._of_enforcers()
            except UnreachableError:
                raise
            except ClientError as error:
                message = f"neither {GROUP} ({refused}) nor the enforcers ({error}) can be read"
                raise ClientError(message) from error
            if found.values or isinstance(refused, NotFoundError):
                return found
            return replace(found, problems=(f"{GROUP}: {refused}", *found.problems))

    def _of_enforcers(self) -> Sample:
        return Enforcers(self.cluster, self.release_namespace, self.nodes).sample()

    def _of_api(self, namespace: str) -> Sample:
        try:
            found = msgspec.convert(self.cluster.get(path_of(namespace)), PodStatsList)
        except msgspec.ValidationError as error:
            raise ClientError(f"{GROUP} says what is not understood: {error}") from error
        values = {
            (f"{namespace}/{pod.metadata['name']}", direction): dict(counters)
            for pod in found.items
            for direction in DIRECTIONS
            if (counters := pod.of(direction))
        }
        return Sample(time.monotonic(), values, found.problems)
