"""One rank's process (``process``), and what the ranks tell each other on the host (``control``)."""
