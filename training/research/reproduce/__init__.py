"""The papers' tables, one command each: what is needed, a plan, the runs, and the whole table."""
