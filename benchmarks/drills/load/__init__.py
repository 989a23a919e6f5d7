"""Load that does not wait for answers: what is sent, how, and what came of it."""
