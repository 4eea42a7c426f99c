"""kdlab distils large language models into small ones and says, with numbers, whether it worked."""

__version__ = "0.1.0"
