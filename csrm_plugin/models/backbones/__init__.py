"""Backbones that the host does not have."""

from .resnest import WSSSResNeSt

__all__ = ['WSSSResNeSt']
