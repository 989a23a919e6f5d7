"""What happens once: listening before anything slow, and a banner when the models are there."""
