"""The administrator's pages: made here, on the server, of templates and one catalogue of texts.

A page is read without JavaScript; what there is of it only brings a page up to date while one looks at it.
"""
