"""Bytes in, frames out: pure parsers and encoders, no await, no clock."""
