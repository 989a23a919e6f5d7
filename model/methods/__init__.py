"""The five methods, a file each in its paper's notation, and what they share."""
