"""Pages and tables for the terminal, as strings; knows no stage and no file."""
