"""Evaluation items that stand in the text: found, told word for word, cut out or dropped."""
