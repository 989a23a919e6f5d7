"""Hours in small: what grows by a little with each request is seen after ten minutes."""
