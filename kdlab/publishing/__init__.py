"""`kdlab publish`: a finished model with its card, to the hub."""
