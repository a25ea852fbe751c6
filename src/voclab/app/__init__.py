"""One image looked at closely, and networks as files for other programs."""
