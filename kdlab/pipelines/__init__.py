"""`kdlab pipeline`: stages, each a verb with options, the outputs of one the inputs of the next."""
