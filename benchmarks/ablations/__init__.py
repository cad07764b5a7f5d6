"""Which choice of the one-step model is worth what? Run `python -m benchmarks.ablations` in the repository's root.

variants       what a variant and a study are
tuning         the study of the last stage: one flow model, tuned with one thing changed
recipe         the study of the whole recipe: every stage from nothing, with one thing changed
distillation   consistency distillation, the rival of tuning by the energy score
train          a short training of one variant, from shared weights or from nothing
measure        its figures on val, and the paired differences to the reference
report         all of it as JSON; page, plot: what a reader sees of it
"""
