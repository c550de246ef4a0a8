"""How Sphinx makes the documentation: ``make docs``. Nothing here needs the network."""

from twisted_chat import __version__

project = "twisted_chat"
author = "the twisted_chat project"
copyright = author
version = release = __version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
# What docstrings write in single backticks.
default_role = "code"
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

html_theme = "alabaster"
html_theme_options = {
    "description": "A server for rooms, on Twisted",
    "fixed_sidebar": True,
    "page_width": "66rem",
    "sidebar_width": "15rem",
    "show_powered_by": False,
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_copy_source = False
html_show_sourcelink = False
