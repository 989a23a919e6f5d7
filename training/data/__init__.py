"""Data sets on disk: rated images, their splits, and what training sees of them."""
