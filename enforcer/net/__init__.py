"""What the network around a target looks like."""
