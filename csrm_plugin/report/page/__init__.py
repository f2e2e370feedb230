"""How a page is made: its markup, layout, colours and style, and how numbers are written in it."""
