"""Quantities as people write them, and as the API server writes them back."""

SPELT = {
    "1000M": "1G",
    "0.5G": "500M",
    "1024Mi": "1Gi",
    "1.5Gi": "1536Mi",
    "0.5Ki": "512",
    "1e9": "1e9",
    "15e8": "1500e6",
    "12E2": "1200",
    "0e9": "0",
    "0": "0",
}
