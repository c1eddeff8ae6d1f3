"""Who waits for whom. Sources give ``order.Order`` the records of ``actions``; it returns races. No torch."""
