"""Pages for people: one module per page, HTML made from templates."""
