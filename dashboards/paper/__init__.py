"""Figures for papers: vector files in the column widths, type and line weights of a two-column page.

The data are those of the report's plots (`NAME_data` in `dashboards`); matplotlib draws them here, without pyplot and its
global state. `catalogue` names every figure. Importing this package loads nothing else.
"""
