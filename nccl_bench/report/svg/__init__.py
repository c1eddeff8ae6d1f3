"""Static pictures of the main charts, for a README or a pull request.

These modules write the elements of a picture with the XML of the standard library. No chart library fits: matplotlib
is slow to import and turns texts into outlines, Altair needs Vega, and pygal draws no intervals.
"""
