"""Shows what a change of the template changes for its users (`make diff`).

Every profile is rendered at two revisions. What differs is shown once, with the profiles that it concerns, in the
terminal, as Markdown for a pull request, and as a page for the browser.

`revisions` finds and renders, `comparison` compares and groups, `colours` marks syntax and words, `text` and `page`
show.
"""
