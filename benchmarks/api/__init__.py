"""Where one API process ends: see ``__main__``."""
