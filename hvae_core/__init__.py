"""hvae"""
