"""Certificates of the webhook: authority, leaf, rotation. No network, no Kubernetes."""
