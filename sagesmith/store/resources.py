"""Documents: one table for every resource; create, get, list, update with versions."""
