"""Read the user's own data: one reader per form, all with the same rows."""
