"""A pipeline: stages from image-level labels to a table, each skipped while it is up to date."""
