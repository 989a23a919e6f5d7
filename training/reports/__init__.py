"""What people read: cards, tables, plots, pages."""
