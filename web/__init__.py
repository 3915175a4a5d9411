"""Everything that speaks HTTP: pages for people and the live connection of the browser."""
