"""Which choice of the one-step model is worth what? Run `python -m benchmarks.ablations` in the repository's root.

variants       the named variants: each the same flow model, tuned with one thing changed
distillation   consistency distillation, the rival of tuning by the energy score
train          a short training of one variant, from weights that all of them share
measure        its figures on val, and the paired differences to the reference
report         all of it as JSON; page, plot: what a reader sees of it
"""
