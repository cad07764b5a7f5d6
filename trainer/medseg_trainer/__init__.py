"""MedSegLatDiff's trainer: makes checkpoints from images and the masks of one or several raters. Needs torch."""
