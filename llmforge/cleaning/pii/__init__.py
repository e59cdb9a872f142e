"""Personal data: finding it by patterns with checks, and replacing it by keyed pseudonyms or masks."""
