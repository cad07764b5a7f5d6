"""MedSegLatDiff's exporter: turns a training run into a bundle that runs without torch."""
