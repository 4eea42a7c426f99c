"""What is measured: on held-out data, over the whole split."""
