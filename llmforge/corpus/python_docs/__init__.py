"""The built-in corpus: the documentation of the Python that runs and of the packages that llmforge installs."""
