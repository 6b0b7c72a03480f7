"""The webhook beside a minimal Go webhook."""
