"""What happens at the end of a step besides the step itself: rows, evaluation, checkpoints, run.json, progress."""
