"""The pages for administrators, rendered on the server from templates and one table of texts.

Every page works without JavaScript, which only keeps an open page up to date.
"""
