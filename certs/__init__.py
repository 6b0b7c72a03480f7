"""A certificate authority and its leaves."""
