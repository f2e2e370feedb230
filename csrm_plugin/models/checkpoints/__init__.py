"""Checkpoints: reading, names of other repositories, and initialising from local files."""
