"""The subject: communicators, each with its own policy of which stream a collective runs on."""
