"""Decoding in processes of its own, with limits on memory and processor time: what a file does to a
decoder, it does there.
"""
