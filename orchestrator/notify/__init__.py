"""Tells people and other programs of what happens to rollouts: webhooks, chat, commands."""
