"""The logits of an image's regions, of any classifier that averages its last map or reads class tokens."""
