"""Classifiers: how a dataset is prepared for one, and how one is judged."""
