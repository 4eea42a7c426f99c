"""Models: where they come from, how they are loaded, cut, counted, saved, and split into body and head."""
