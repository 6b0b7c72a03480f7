"""The API server: the enforcer's only folder that makes requests to one."""
