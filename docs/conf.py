"""How Sphinx builds the documentation: ``make docs``."""

project = "Fleetlog"
copyright = "the Fleetlog authors"  # noqa: A001 - the name that Sphinx reads
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Fleetlog"
myst_heading_anchors = 3
nitpicky = True
