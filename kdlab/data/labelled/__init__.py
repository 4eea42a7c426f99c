"""Rows with labels: classes, folds, leakage, and the examples that a classifier reads."""
