"""`kdlab export` and `kdlab predict`: a finished model in other forms, each verified, and what it answers."""
