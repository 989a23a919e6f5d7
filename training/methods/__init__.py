"""What each method learns: its predictions, its losses, and the parameters that move."""
