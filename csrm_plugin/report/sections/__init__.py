"""The sections of a page, each on one subject: scores, settings, curves, classes, pictures, cost, stages, trials."""
