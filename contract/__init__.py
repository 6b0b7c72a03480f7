"""The words that webhook, enforcer and client agree on. Standard library only, no I/O."""
