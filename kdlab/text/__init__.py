"""Text: what a row of a dataset says, as a conversation or a plain text, and the token ids and targets it becomes."""
