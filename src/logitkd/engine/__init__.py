"""logitkd."""
