"""Other metrics on the same images, and how to tell the difference from chance."""
