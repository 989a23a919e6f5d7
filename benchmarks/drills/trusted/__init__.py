"""Right answers under faults and hostile uploads."""
