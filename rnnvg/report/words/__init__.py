"""What each figure shows in this run, worded from its numbers: nothing is claimed that the frames do not say.

A file a figure; in each, `paragraphs(results)` gives short paragraphs in plain text.
"""
