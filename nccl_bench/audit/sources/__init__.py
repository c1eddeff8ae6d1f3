"""What feeds the order: each module watches one road on which a program reaches a device, and reports actions."""
