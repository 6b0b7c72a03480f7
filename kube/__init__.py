"""Transport to the API server, shared by the webhook and the enforcer."""
