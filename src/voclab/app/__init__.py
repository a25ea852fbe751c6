"""One image looked at closely."""
