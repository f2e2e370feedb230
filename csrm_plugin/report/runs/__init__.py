"""What is reported, as it lies on disk: runs, pipelines and sweeps; and how two of them differ."""
