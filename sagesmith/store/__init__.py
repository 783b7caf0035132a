"""Floor 1: where things are kept. Documents, series and logs in a database; bytes in an object store."""
