"""The API server: one client and one list-watch, for the webhook, the enforcer and the command."""
