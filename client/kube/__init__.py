"""``kubectl podpace``: limits as the cluster knows them; only this package imports its client."""
