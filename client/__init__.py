"""The podpace command."""
