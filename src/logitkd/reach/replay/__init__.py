"""Running a model from the middle, without editing it."""
