"""`kdlab cache`: run a teacher once over a dataset and keep what it says."""
