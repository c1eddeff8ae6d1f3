"""The sources of the order: each module watches one road from a program to a device, and reports actions."""
