"""Measuring: what is in the buffers (``values``, ``buffers``), one batch (``timing``), how many and in which order
(``schedule``), and the walk over cases and arms (``runner``)."""
