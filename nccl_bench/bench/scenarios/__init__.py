"""The work around the collective: what one timed call is. A module for each scenario, behind the protocol ``Work``."""
