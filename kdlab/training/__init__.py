"""A training job, from its config to run.json and the finished student; it continues exactly where it was killed."""
