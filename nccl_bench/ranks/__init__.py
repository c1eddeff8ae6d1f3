"""The process of one rank, what ranks exchange on the host, and what the launcher and the ranks exchange by files."""
