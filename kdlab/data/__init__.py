"""Data: rows of any source become token ids on disk or in a stream, split once, and batches that resume exactly."""
