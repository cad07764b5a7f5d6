"""What others would train on the same split for the same time: `python -m benchmarks.baselines` trains, measures and compares.

unet                a deterministic U-Net from MONAI: one mask, and its probability map
probabilistic-unet  Kohl et al. 2018, in our own words: a Gaussian latent per mask, sixteen samples
fast, paper         our own recipe and the paper's, shortened to that time
masks               not a model but a choice: our mask autoencoder with the mean squared error instead of weighted cross-entropy
"""
