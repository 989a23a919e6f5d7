"""What runs next on the device. Standard library only; torch, HTTP and shared memory are others'
business.
"""
