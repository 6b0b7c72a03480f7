"""Makes what is so what should be: observe, plan, execute; one target at a time."""
