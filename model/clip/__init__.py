"""CLIP: its towers with prompts between their layers, backbones, and the weights that they have."""
