"""The charts of a report as data. The web page and the SVG files draw the same charts."""
