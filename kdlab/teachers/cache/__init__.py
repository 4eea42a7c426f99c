"""The teacher on disk: signals by the content of what was read, in shards that are written whole or not at all."""
