"""Who may do what, and why: the one decision that every broker and every HTTP route follows."""
