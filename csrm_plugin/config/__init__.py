"""Reading configs, the keys they may have, and the provenance of results."""
