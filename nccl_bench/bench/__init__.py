"""Measuring: what is in the buffers (``values``, ``buffers``), one batch (``timing``), how long and in which order
(``schedule``), when there are enough (``stopping``, ``budget``), and the walk over cases and arms (``runner``)."""
