"""Pure: what a pod's JSON asks for, and what is said on the pod about it. No I/O, no clock."""
