"""Every speed figure of the README, one command each, as ratios within one run."""
