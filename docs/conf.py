"""Sphinx: the documentation is Markdown (MyST), built by `make docs`."""

import sagesmith

project = "sagesmith"
author = "the sagesmith contributors"
release = version = sagesmith.__version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"sagesmith {release}"
