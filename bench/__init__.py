"""Measurements: the traffic rig, the demo and the side-by-side benchmark. Run from the checkout."""
