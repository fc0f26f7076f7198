"""Ways to tell people: a webhook, a command, mail through one of our own settings. No notice holds a secret."""
