"""WHEN: rollouts, their states and decisions."""
