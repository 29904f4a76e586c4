"""Tasks: what a batch is, how models become signals, what is measured."""
