"""Stream order by construction: which accesses to memory nothing orders, decided from what the host asked for."""
