"""What devices and people ask of the hub, the same over HTTP and over `request/<op>`: one file per operation."""
