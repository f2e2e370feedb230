"""Run the sweep files of Weights & Biases without a server, on Optuna with storage on disk."""
