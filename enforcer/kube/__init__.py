"""The API server: the enforcer's only folder that imports a Kubernetes client."""
