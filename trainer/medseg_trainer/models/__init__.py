"""The networks, in plain torch.

Shape suffixes: B batch, N samples, C image channels, K logits, Z latent channels, F condition channels, H W pixels, h w cells.
"""
