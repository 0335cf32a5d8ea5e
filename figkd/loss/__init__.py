"""Losses of logits: a file for each method, the table of them in `methods`, made by `build.build_loss`.

Beside them what they are made of: `functional` (formulas), the wavelet's transform and detail, the orders of classes.
"""
