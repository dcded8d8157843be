"""A linear classifier of the pixels of `images`."""
