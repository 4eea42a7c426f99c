"""Benchmarks of others: MT-Bench and the tasks of lm-evaluation-harness, before and after training."""
