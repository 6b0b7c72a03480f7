"""The node daemon: observe, plan, execute."""
