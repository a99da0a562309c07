"""Plans, and rollouts that are bound to one."""
