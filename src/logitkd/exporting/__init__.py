"""A finished student as others load it."""
