"""The service: HTTP in, scores out. Knows no torch except in its worker process."""
