"""From samples to batches: pictures decoded ahead, windows, degraded copies."""
