"""What a client may take: connections, seconds and bytes."""
