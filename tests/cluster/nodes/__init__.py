"""Nodes without machines: a network namespace, a cgroup, and code that plays the kubelet.

The real scheduler binds pods to them; each pod gets a cgroup, a network namespace and a real
process. Several nodes share one machine and are joined by a switch.
"""
