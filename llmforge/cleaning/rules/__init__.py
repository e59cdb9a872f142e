"""Published rule sets, one file each: thresholds over the signals of a text."""
