"""Masks of images that nobody has labelled: a trained network on files of any size, and pictures to judge it by."""
