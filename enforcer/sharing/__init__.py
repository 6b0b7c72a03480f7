"""Bandwidth that is shared: who may use how much of a total, and of a node's link."""
