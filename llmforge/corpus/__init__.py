"""Raw text of many formats to documents, and documents to the corpus folder that later steps read."""
