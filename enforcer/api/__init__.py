"""What others reach the daemon by: the control socket and /metrics."""
