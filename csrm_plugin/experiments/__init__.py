"""Many runs: pipelines, sweeps, repetitions, the demo."""
