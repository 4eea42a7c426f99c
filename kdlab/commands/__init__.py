"""The verbs of `kdlab`, a module each: `main(argv)` returns the exit status. Imported when asked for."""
