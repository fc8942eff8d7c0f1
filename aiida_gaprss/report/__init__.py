"""A campaign as plain data, and as a page, tables and figures.

``record`` holds the data, ``write`` makes the page, ``text`` the tables for the terminal.
"""
