"""The worker process from outside: its supervisor, its messages, and the memory it shares with
us.
"""
