"""Puts each role together out of its parts: the one place that knows them all.

A module for each role, so that a process loads what its own roles need.
"""
