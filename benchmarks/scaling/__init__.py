"""Past one device: figures on paper, and lanes that are measured."""
