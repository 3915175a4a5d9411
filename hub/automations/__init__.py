"""Automations: rules that people write, by which what happens leads to proposals; nothing is done by them alone."""
