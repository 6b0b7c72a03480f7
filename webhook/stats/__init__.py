"""The aggregated API: pods' counters for whoever may read them. Admission never waits for it."""
