"""Train MedSegLatDiff on images and the masks of one or several raters, and evaluate it. Needs torch."""
