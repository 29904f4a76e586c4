"""From settings to a trained student: the loop over epochs and steps, its checkpoints, what is refused before it begins."""
