"""Teachers: whatever answers a batch with a signal."""
