"""The slow truth: every operator as scalar loops, written without looking at the fast implementation."""
