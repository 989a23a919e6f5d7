"""Reports, whoever writes them: a document of typed sections, as one HTML file or as Markdown, and
charts as SVG and as text.

Imports nothing else of this project and no torch, so that the command line and training can share
it. Jinja is needed for HTML alone, and imported there.
"""
