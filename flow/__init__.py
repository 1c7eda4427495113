"""Optical flow: arrays in, arrays out."""
