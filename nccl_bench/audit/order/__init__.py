"""Who waits for whom. No torch.

Sources make records, which ``actions`` defines, and give them to ``order.Order``, which returns the races.
"""
