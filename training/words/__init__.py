"""The first stage of pre-training: the text tower learns words from WordNet, without an image."""
