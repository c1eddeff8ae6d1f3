"""Static pictures of the main charts, for a README or a pull request.

Plain text is written by these modules and by the standard library's XML, and not by a chart library. A library that
draws intervals, shades and small multiples with so little text was not found: matplotlib writes 10 times as much and
takes a second to import, Altair needs Vega, and pygal has no intervals.
"""
