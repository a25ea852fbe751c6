"""What a network is worth: on clean, corrupted and attacked images."""
