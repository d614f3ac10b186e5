"""One page that needs no network, a Markdown twin, tables for LaTeX."""
