"""The sources of the order: each module watches one way in which programs use a device, and reports actions."""
