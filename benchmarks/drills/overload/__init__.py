"""What clients ask too much of: time, connections, bytes."""
