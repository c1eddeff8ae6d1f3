"""The subject: who puts a collective on which stream."""
