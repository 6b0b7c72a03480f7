"""The Kubernetes side of the webhook; only this package imports a Kubernetes client."""
