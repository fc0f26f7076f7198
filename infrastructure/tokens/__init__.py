"""The life of tokens: acquisition, renewal, deletion, and the exchange with the provider that loses nothing."""
