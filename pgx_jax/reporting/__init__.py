"""From the results of runs to tables, figures, Markdown and one page."""
