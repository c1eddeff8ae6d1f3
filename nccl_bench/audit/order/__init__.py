"""Decides which work waits for which other work, and finds the races. No torch.

Sources make the records that ``actions`` defines, and give the records to ``order.Order``. It returns the races.
"""
