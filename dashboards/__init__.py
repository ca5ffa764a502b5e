"""What people see: figures, the report file and the terminal view.

Every plot comes in two functions: `NAME_data(...)` turns frames into a frozen record of plain Python values,
and `NAME_figure(data)` draws it.  Importing this package loads neither plotly nor rich nor pandas.
"""
