"""What `kdlab check` does: whether a run would fit and work, found out without loading a weight."""
