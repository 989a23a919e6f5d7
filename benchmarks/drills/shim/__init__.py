"""What a drill puts into the service's processes."""
