"""From a checkpoint to labels, scores, pictures and exports."""
