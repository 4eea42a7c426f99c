"""Pages, tables and samples from `run.json` and `metrics.csv`. Runs without torch."""
