"""Stepping stones: the student's first blocks, the teacher's last."""
