"""`kdlab generate` and `kdlab evaluate`: what a model writes, kept as data or judged."""
