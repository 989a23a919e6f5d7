"""The subcommands that this package adds to ``agiqa``, which finds them through the entry-point
group ``agiqa.commands``: ``app`` imports nothing here.

What needs the ``train`` extra is imported inside of the commands, so that the others work without.
"""
