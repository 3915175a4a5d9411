"""Policies: what people let be approved without being asked; whatever is not clearly meant is asked."""
